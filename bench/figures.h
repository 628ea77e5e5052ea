/* What a run of the herd has seen, second by second, and how it is written as JSON. */
#ifndef BENCH_FIGURES_H
#define BENCH_FIGURES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { SECONDS = 1024 };

struct list {
    double *values;
    size_t count, room;
};

static struct {
    double began;
    long attempts[SECONDS], admitted[SECONDS], refused[SECONDS], gave_up[SECONDS];
    struct list latency[SECONDS]; /* of messages, in the second in which they were sent */
    struct list admissions;       /* when each was */
    struct list back;             /* how long each client took from its cut, or coming, to be settled */
    struct list late;             /* how much later than due each of those messages was sent */
    struct list closes;           /* when each close frame of a settled client came */
    long messages, gaps, lost, failed;
} seen;

static void keep(struct list *list, double value) {
    if (list->count == list->room) {
        list->room = list->room ? 2 * list->room : 256;
        list->values = realloc(list->values, list->room * sizeof *list->values);
    }
    list->values[list->count++] = value;
}

static int second_of(double time) {
    int second = (int)(time - seen.began);
    return second < 0 ? 0 : second >= SECONDS ? SECONDS - 1 : second;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void sort(struct list *list) {
    if (list->count) qsort(list->values, list->count, sizeof *list->values, ascending);
}

/* The value below which that share of a sorted list is. */
static double share(const struct list *list, double part) {
    return list->count ? list->values[(size_t)(part * (double)(list->count - 1))] : 0;
}

/* The most of the times of a sorted list that are within one second. */
static size_t busiest(const struct list *times) {
    size_t most = 0, first = 0;
    for (size_t i = 0; i < times->count; i++) {
        while (times->values[i] - times->values[first] >= 1.0) first++;
        if (i - first + 1 > most) most = i - first + 1;
    }
    return most;
}

static void write_counts(const char *name, const long *counts, int seconds) {
    printf(",\"%s\":[", name);
    for (int i = 0; i < seconds; i++) printf("%s%ld", i ? "," : "", counts[i]);
    printf("]");
}

static void write_spread(const char *name, const struct list *list) {
    printf("\"%s\":{\"count\":%zu,\"p50\":%.6f,\"p99\":%.6f,\"most\":%.6f}", name, list->count,
           share(list, 0.5), share(list, 0.99), share(list, 1));
}

static void write_times(const char *name, struct list *times) {
    sort(times);
    printf(",\"%s\":{\"count\":%zu,\"busiest\":%zu,\"first\":%.6f,\"last\":%.6f}", name, times->count,
           busiest(times), times->count ? times->values[0] - seen.began : 0,
           times->count ? times->values[times->count - 1] - seen.began : 0);
}

static void forget_seen(double now) {
    for (int i = 0; i < SECONDS; i++) free(seen.latency[i].values);
    free(seen.admissions.values), free(seen.back.values), free(seen.closes.values);
    free(seen.late.values);
    memset(&seen, 0, sizeof seen);
    seen.began = now;
}

/* Writes what was seen until `now`. */
static void write_seen(double now) {
    int seconds = second_of(now) + 1;
    struct list all = {0};
    printf("\"seconds\":%.6f", now - seen.began);
    write_counts("attempts", seen.attempts, seconds);
    write_counts("admitted", seen.admitted, seconds);
    write_counts("refused", seen.refused, seconds);
    write_counts("gave_up", seen.gave_up, seconds);
    write_times("admissions", &seen.admissions);
    write_times("closes", &seen.closes);
    printf(","), sort(&seen.back), write_spread("back", &seen.back);
    printf(",\"latencies\":[");
    for (int i = 0; i < seconds; i++) {
        sort(&seen.latency[i]);
        printf("%s{", i ? "," : ""), write_spread("s", &seen.latency[i]), printf("}");
        for (size_t j = 0; j < seen.latency[i].count; j++) keep(&all, seen.latency[i].values[j]);
    }
    printf("],"), sort(&all), write_spread("latency", &all);
    printf(","), sort(&seen.late), write_spread("late", &seen.late);
    printf(",\"messages\":%ld,\"gaps\":%ld,\"lost\":%ld,\"failed\":%ld", seen.messages, seen.gaps,
           seen.lost, seen.failed);
    free(all.values);
}

#endif

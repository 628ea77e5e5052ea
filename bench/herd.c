/* A herd of WebSocket clients: each comes, is let in or refused, and comes back when it was told to.
 *
 *     herd PORT...
 *
 * Commands on stdin, fields separated by tabs; one JSON object a line on stdout in answer to each.
 *
 *   group   n path head* tokens first answers rate stay again text every silent
 *           n clients, each with an address of its own, and of several ports each has its own: they
 *           are dealt out in turn. They come all at once, or `rate` a second.
 *           `first` is sent with the first text that comes, or with the 101 if `answers` is 0; who
 *           got `answers` texts is settled. The settled leave after `stay` seconds, if given, and
 *           with `again` they come again at once; or they send `text` every `every` seconds, and the
 *           time to the next text that comes is its latency.
 *           In what is sent, @ is a client's number and # counts what it sent.
 *           With `silent` they read nothing any more once they are settled.
 *   cut     group    resets all of them; each comes back at once
 *   end     group    resets all of them, and nobody of the group comes again
 *   run     t group  runs for `t` seconds, or until all of `group` are settled or gone
 *
 * A refused client comes back after exactly the delay that it was told, in `Retry-After` or in the
 * reason of a close frame; after a second if it was told none. One that waits for an answer for ten
 * seconds gives up and comes back a second later. Numbers "n":N in texts are looked at: they should
 * rise by one. While it runs it spins instead of sleeping: waking a sleeping core would be charged
 * to the server.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/resource.h>

#include "clients.h"

struct command { char *name, *heads[HEADS]; int head_count, silent, again, n, answers, group; char *path,
    *tokens, *first, *text; double rate, stay, every, t; };

static char **read_tokens(const char *path, int n) {
    FILE *file = fopen(path, "r");
    char **tokens = calloc((size_t)n, sizeof *tokens), *line = NULL;
    size_t room = 0;
    for (int i = 0; i < n; i++) {
        if (!file || getline(&line, &room, file) <= 0) {
            fprintf(stderr, "herd: %s has too few tokens\n", path);
            exit(2);
        }
        tokens[i] = strndup(line, strcspn(line, "\n"));
    }
    free(line), fclose(file);
    return tokens;
}

static void do_group(struct command *said) {
    if (group_count == GROUPS || client_count + said->n > CLIENTS) {
        fprintf(stderr, "herd: too many\n");
        exit(2);
    }
    struct group *g = &groups[group_count];
    *g = (struct group){.first = client_count, .n = said->n, .answers = said->answers,
                        .silent = said->silent, .again = said->again, .path = strdup(said->path), .rate = said->rate,
                        .stay = said->stay, .every = said->every, .head_count = said->head_count};
    if (said->first) g->greeting = strdup(said->first);
    if (said->text) g->text = strdup(said->text);
    for (int i = 0; i < said->head_count; i++) g->heads[i] = strdup(said->heads[i]);
    if (said->tokens) g->tokens = read_tokens(said->tokens, said->n);
    double now = clock_now();
    for (int i = 0; i < said->n; i++) {
        clients[client_count] = (struct client){.fd = -1, .group = (uint8_t)group_count};
        set_timer(client_count++, now + (g->rate ? i / g->rate : 0));
    }
    group_count++;
}

static void do_cut(int group) {
    struct group *g = &groups[group];
    double now = clock_now();
    for (int who = g->first; who < g->first + g->n; who++) {
        if (clients[who].state == SETTLED) g->settled--;
        clients[who].state = clients[who].fd < 0 ? AWAY : OPEN;
        clients[who].cut = 1, set_timer(who, now);
    }
}

static void do_end(int group) {
    struct group *g = &groups[group];
    for (int who = g->first; who < g->first + g->n; who++) {
        drop(who, 1);
        clients[who].timer++, clients[who].state = GONE;
    }
    g->gone = g->n;
}

static void look(void) {
    static struct epoll_event events[EVENTS];
    int n = epoll_wait(poller, events, EVENTS, 0);
    for (int i = 0; i < n; i++) ready(events[i].data.fd, events[i].events);
}

/* Between two runs nobody reads or sends: what came and was due meanwhile says nothing, and who was
 * cut begins to come back now. */
static void begin_anew(void) {
    for (double until = clock_now() + 0.2; clock_now() < until;) look();
    double now = clock_now();
    for (int who = 0; who < client_count; who++)
        if (clients[who].cut) {
            clients[who].since = now;
        } else if (clients[who].state == SETTLED && clients[who].flight && clients[who].next < now) {
            struct group *g = &groups[clients[who].group];
            clients[who].next = now + g->every * (who - g->first + 1) / g->n;
            set_timer(who, clients[who].next);
        }
    forget_seen(now);
}

static void do_run(double seconds, int group) {
    begin_anew();
    double began = clock_now(), now = began;
    while (now - began < seconds) {
        struct group *g = group < 0 ? NULL : &groups[group];
        if (g && g->settled + g->gone == g->n) break;
        int who;
        while ((who = due(&sending, now)) >= 0) turn_of(who);
        for (int i = 0; i < STARTS && (who = due(&others, now)) >= 0; i++) turn_of(who);
        look();
        now = clock_now();
    }
    printf("{\"groups\":[");
    for (int i = 0; i < group_count; i++)
        printf("%s{\"n\":%d,\"settled\":%d,\"gone\":%d}", i ? "," : "", groups[i].n, groups[i].settled,
               groups[i].gone);
    printf("],"), write_seen(now), printf("}\n");
}

static void obey(char *line) {
    struct command said = {.name = strsep(&line, "\t\n"), .path = "/", .group = -1};
    for (char *field; line && (field = strsep(&line, "\t\n"));) {
        char *value = strchr(field, '=');
        if (!value) continue;
        *value++ = 0;
        if (!strcmp(field, "n")) said.n = atoi(value);
        else if (!strcmp(field, "path")) said.path = value;
        else if (!strcmp(field, "head") && said.head_count < HEADS) said.heads[said.head_count++] = value;
        else if (!strcmp(field, "tokens")) said.tokens = value;
        else if (!strcmp(field, "first")) said.first = value;
        else if (!strcmp(field, "text")) said.text = value;
        else if (!strcmp(field, "answers")) said.answers = atoi(value);
        else if (!strcmp(field, "silent")) said.silent = atoi(value);
        else if (!strcmp(field, "again")) said.again = atoi(value);
        else if (!strcmp(field, "group")) said.group = atoi(value);
        else if (!strcmp(field, "rate")) said.rate = atof(value);
        else if (!strcmp(field, "stay")) said.stay = atof(value);
        else if (!strcmp(field, "every")) said.every = atof(value);
        else if (!strcmp(field, "t")) said.t = atof(value);
        else fprintf(stderr, "herd: unknown field %s\n", field), exit(2);
    }
    if (!strcmp(said.name, "group")) do_group(&said);
    else if (!strcmp(said.name, "cut")) do_cut(said.group);
    else if (!strcmp(said.name, "end")) do_end(said.group);
    else if (!strcmp(said.name, "run")) do_run(said.t, said.group);
    else fprintf(stderr, "herd: unknown command %s\n", said.name), exit(2);
    if (strcmp(said.name, "run")) printf("{}\n");
    fflush(stdout);
}

int main(int argc, char **argv) {
    struct rlimit files;
    char *line = NULL;
    size_t room = 0;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2 || argc > 1 + PORTS) { fprintf(stderr, "herd PORT..., commands on stdin\n"); return 2; }
    for (int i = 1; i < argc; i++) ports[port_count++] = atoi(argv[i]);
    clients = calloc(CLIENTS, sizeof *clients);
    poller = epoll_create1(0);
    while (getline(&line, &room, stdin) > 0) obey(line);
    for (int who = 0; who < client_count; who++) drop(who, 1);
    return 0;
}

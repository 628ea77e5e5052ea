/* The load generator: holds tens of thousands of WebSocket connections on one core and measures.
 *
 *     load PORT [SOURCES]
 *
 * One command a line on stdin, fields separated by tabs, the first one the name and the others
 * key=value; one JSON object a line on stdout in answer. Between commands the connections are held:
 * pings are answered, closes are counted. At the end of stdin every connection is reset.
 *
 *   open    n c path head* protocol* tokens first answers
 *           opens a group of connections, c at a time. `head` is one more header line; of several
 *           `protocol` each connection offers one, in turn; `tokens` a file with a bearer token a
 *           line for each connection; `first` a text message sent after the 101; then `answers`
 *           messages are awaited.
 *   visit   n c path head*                        attempts that are accepted and reset at once
 *   refuse  n c path head*                        attempts that should all be refused
 *   fan     group frames text                     the first of the group sends `text` `frames` times
 *           in one write; all of the group await as many messages
 *   echo    group seconds size                    each sends, awaits the echo, sends again
 *   close   group                                 resets a group
 *   stat                                          what was seen so far
 *
 * Every command takes `t`, the most seconds that it may last (60). While a command measures, the
 * generator spins instead of sleeping: waking a sleeping core would be charged to the server.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/resource.h>

#include "connections.h"

static double attempts(int group) {
    double began = clock_now();
    for (int next = 0; done < now.n && clock_now() - began < now.limit;) {
        for (int burst = 0; next < now.n && in_flight < now.c && burst < 16; burst++)
            start(group, next++);
        turn(0);
    }
    double seconds = clock_now() - began;
    for (int fd = 3; fd < MOST && in_flight; fd++) /* out of time */
        if (conns[fd].state && conns[fd].state != OPEN) fail(fd, "out of time");
    failures += in_flight, in_flight = 0;
    return seconds;
}

static void read_tokens(void) {
    FILE *file = fopen(now.tokens, "r");
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    tokens = calloc((size_t)now.n, sizeof *tokens);
    for (int i = 0; i < now.n; i++) {
        if (!file || (n = getline(&line, &room, file)) <= 0) {
            fprintf(stderr, "load: %s has too few tokens\n", now.tokens);
            exit(2);
        }
        tokens[i] = strndup(line, strcspn(line, "\n"));
    }
    free(line), fclose(file);
}

static void do_open(void) {
    if (groups == GROUPS) { fprintf(stderr, "load: too many groups\n"); exit(2); }
    if (now.tokens) read_tokens();
    double seconds = attempts(groups);
    if (tokens) {
        for (int i = 0; i < now.n; i++) free(tokens[i]);
        free(tokens), tokens = NULL;
    }
    long opened = 0;
    group_first[groups] = -1;
    for (int fd = 3; fd < MOST; fd++)
        if (conns[fd].state == OPEN && conns[fd].group == groups) {
            if (group_first[groups] < 0) group_first[groups] = fd;
            opened++;
        }
    group_size[groups] = (int)opened;
    printf("{\"group\":%d,\"opened\":%ld,\"failed\":%ld,\"seconds\":%.6f,\"rate\":%.1f,"
           "\"slowest\":%.6f", groups++, opened, failures, seconds, (double)opened / seconds, slowest);
}

static void do_visit(void) {
    double seconds = attempts(groups);
    printf("{\"attempts\":%d,\"seconds\":%.6f,\"rate\":%.1f,\"slowest\":%.6f,\"failed\":%ld", done,
           seconds, (double)done / seconds, slowest, failures);
}

static void do_refuse(void) {
    double seconds = attempts(groups);
    printf("{\"attempts\":%d,\"seconds\":%.6f,\"rate\":%.1f,\"slowest\":%.6f,\"failed\":%ld,"
           "\"resets\":%ld", done, seconds, (double)done / seconds, slowest, failures, resets);
    const char *comma = "";
    printf(",\"statuses\":{");
    for (int i = 0; i < 600; i++)
        if (statuses[i]) printf("%s\"%d\":%ld", comma, i, statuses[i]), comma = ",";
    printf("},\"closes\":{"), comma = "";
    for (int i = 0; i < 5000; i++)
        if (closes[i]) printf("%s\"%d\":%ld", comma, i, closes[i]), comma = ",";
    printf("}");
}

static void do_fan(void) {
    long expected = (long)group_size[now.group] * now.frames;
    for (int fd = 3; fd < MOST; fd++) conns[fd].texts = 0;
    double began = clock_now();
    if (send_frames(group_first[now.group], TEXT, now.text, strlen(now.text), now.frames) < 0)
        failures++, note("message not sent");
    while (done < expected && clock_now() - began < now.limit) turn(0);
    double seconds = clock_now() - began;
    long wrong = 0; /* members that did not get exactly what was sent */
    for (int fd = 3; fd < MOST; fd++)
        if (conns[fd].state == OPEN && conns[fd].group == now.group)
            wrong += conns[fd].texts != (uint32_t)now.frames;
    printf("{\"expected\":%ld,\"delivered\":%d,\"wrong\":%ld,\"seconds\":%.6f,\"rate\":%.1f", expected,
           done, wrong, seconds, (double)done / seconds);
}

static void do_echo(void) {
    char *payload = malloc((size_t)now.size + 1);
    memset(payload, 'x', (size_t)now.size);
    now.text = payload;
    double began = clock_now(), seconds;
    for (int fd = 3; fd < MOST; fd++)
        if (conns[fd].state == OPEN && conns[fd].group == now.group)
            send_frames(fd, TEXT, payload, (size_t)now.size, 1);
    while ((seconds = clock_now() - began) < now.seconds) turn(0);
    long echoes = done;
    resend = 0; /* no further ones; those on the way come home before the next command */
    while (done < echoes + group_size[now.group] && clock_now() - began < now.seconds + 2) turn(10);
    printf("{\"echoes\":%ld,\"seconds\":%.6f,\"rate\":%.1f,\"wrong\":%ld", echoes, seconds,
           (double)echoes / seconds, wrong_sizes);
    free(payload);
}

static void do_close(void) {
    double began = clock_now();
    int n = 0;
    for (int fd = 3; fd < MOST; fd++)
        if (conns[fd].state == OPEN && conns[fd].group == now.group) forget(fd, 1), n++;
    printf("{\"closed\":%d,\"seconds\":%.6f", n, clock_now() - began);
}

static void parse(char *line) {
    memset(&now, 0, sizeof now);
    now = (struct command){.name = strsep(&line, "\t\n"), .path = "/", .n = 1, .c = 128,
                           .frames = 1, .size = 64, .seconds = 1, .limit = 60};
    for (char *field; line && (field = strsep(&line, "\t\n"));) {
        char *value = strchr(field, '=');
        if (!value) continue;
        *value++ = 0;
        if (!strcmp(field, "n")) now.n = atoi(value);
        else if (!strcmp(field, "c")) now.c = atoi(value);
        else if (!strcmp(field, "t")) now.limit = atof(value);
        else if (!strcmp(field, "path")) now.path = value;
        else if (!strcmp(field, "head") && now.head_count < 16) now.heads[now.head_count++] = value;
        else if (!strcmp(field, "protocol") && now.protocol_count < 4)
            now.protocols[now.protocol_count++] = value;
        else if (!strcmp(field, "tokens")) now.tokens = value;
        else if (!strcmp(field, "first") || !strcmp(field, "text")) now.text = value;
        else if (!strcmp(field, "answers")) now.answers = atoi(value);
        else if (!strcmp(field, "group")) now.group = atoi(value);
        else if (!strcmp(field, "frames")) now.frames = atoi(value);
        else if (!strcmp(field, "seconds")) now.seconds = atof(value);
        else if (!strcmp(field, "size")) now.size = atoi(value);
        else fprintf(stderr, "load: unknown field %s\n", field), exit(2);
    }
}

static void obey(char *line) {
    parse(line);
    in_flight = done = 0, failures = resets = wrong_sizes = 0, failure[0] = 0, slowest = 0, resend = 1;
    memset(statuses, 0, sizeof statuses), memset(closes, 0, sizeof closes);
    if (!strcmp(now.name, "open")) now.doing = OPENING, do_open();
    else if (!strcmp(now.name, "visit")) now.doing = VISITING, do_visit();
    else if (!strcmp(now.name, "refuse")) now.doing = REFUSING, do_refuse();
    else if (!strcmp(now.name, "fan")) now.doing = FANNING, do_fan();
    else if (!strcmp(now.name, "echo")) now.doing = ECHOING, do_echo();
    else if (!strcmp(now.name, "close")) do_close();
    else if (!strcmp(now.name, "stat")) printf("{\"frames\":%ld,\"bytes\":%ld", frames_seen, bytes_seen);
    else fprintf(stderr, "load: unknown command %s\n", now.name), exit(2);
    printf(",\"open\":%ld,\"unexpected_closes\":%ld,\"pings\":%ld,\"note\":\"%s\"}\n", open_count,
           unexpected_closes, pings, failure);
    fflush(stdout);
    now.doing = NOTHING;
}

int main(int argc, char **argv) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) { fprintf(stderr, "load PORT [SOURCES], commands on stdin\n"); return 2; }
    port = atoi(argv[1]);
    if (argc > 2) sources = atoi(argv[2]);
    conns = calloc(MOST, sizeof *conns);
    poller = epoll_create1(0);
    watch(STDIN_FILENO, EPOLL_CTL_ADD, EPOLLIN);

    char input[1 << 16], line[1 << 16];
    size_t have = 0;
    for (;;) {
        if (!turn(-1)) continue;
        ssize_t n = read(STDIN_FILENO, input + have, sizeof input - have);
        if (n <= 0) break;
        have += (size_t)n;
        for (char *end; (end = memchr(input, '\n', have));) {
            size_t length = (size_t)(end + 1 - input);
            memcpy(line, input, length - 1), line[length - 1] = 0;
            memmove(input, end + 1, have -= length);
            obey(line);
        }
    }
    for (int fd = 3; fd < MOST; fd++)
        if (conns[fd].state) forget(fd, 1);
    return 0;
}

/* The connections of the load generator: opening them, reading them, ending them.
 *
 * Part of load.c, which has the commands; what a connection does next depends on the one that runs.
 */
#ifndef BENCH_CONNECTIONS_H
#define BENCH_CONNECTIONS_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "ws.h"

enum { MOST = 65536, GROUPS = 64, EVENTS = 1024, HEAD = 4096, KEYS = 64 };
enum state { UNUSED, CONNECTING, UPGRADING, REFUSED, OPEN };
enum doing { NOTHING, OPENING, VISITING, REFUSING, FANNING, ECHOING };

struct conn {
    uint8_t state, group;
    struct splitter frame;          /* the one being read */
    uint32_t texts;                 /* text messages since the command began */
    uint16_t status, close_code;
    uint32_t number;                /* in its group, for its token */
    double began;
    char *head;                     /* while the handshake lasts: the key, then the response */
    uint32_t head_length;
};

struct command {
    enum doing doing;
    char *name, *path, *text, *tokens, *heads[16], *protocols[4];
    int n, c, answers, group, frames, size, head_count, protocol_count;
    double seconds, limit;
};

static struct conn *conns; /* by file descriptor */
static int poller, port, sources = 8, groups, group_size[GROUPS], group_first[GROUPS];
static int in_flight, done, resend;
static long failures, unexpected_closes, pings, frames_seen, bytes_seen, open_count;
static long statuses[600], closes[5000], resets, wrong_sizes;
static struct command now;         /* the command that runs */
static char **tokens;
static double slowest;             /* of the attempts, from connect() to the end of it */
static uint64_t rng = 88172645463325252ull;
static char failure[128];          /* the first one's cause, for the report */

static double clock_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t random64(void) {
    rng ^= rng << 13, rng ^= rng >> 7;
    return rng ^= rng << 17;
}

static void attempted(double began) {
    double seconds = clock_now() - began;
    if (seconds > slowest) slowest = seconds;
    in_flight--, done++;
}

static void note(const char *what) {
    if (!failure[0]) snprintf(failure, sizeof failure, "%s", what);
}

/* Closes the descriptor, by a reset when told: then no TIME_WAIT holds one of our ports. */
static void forget(int fd, int reset) {
    struct conn *c = &conns[fd];
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    if (reset) setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    if (c->state == OPEN) open_count--;
    free(c->head);
    memset(c, 0, sizeof *c);
    close(fd);
}

/* An attempt that did not end as the command wants. */
static void fail(int fd, const char *what) {
    note(what);
    failures++, attempted(conns[fd].began);
    forget(fd, 1);
}

static int send_frames(int fd, int opcode, const char *text, size_t n, int times) {
    static uint8_t out[1 << 18];
    size_t used = 0;
    if ((n + 14) * (size_t)times > sizeof out) return -1;
    while (times-- > 0) {
        uint64_t bits = random64();
        size_t head = frame_header(out + used, opcode, n, (uint8_t *)&bits);
        memcpy(out + used + head, text, n);
        apply_mask(out + used + head, n, (uint8_t *)&bits);
        used += head + n;
    }
    return send(fd, out, used, MSG_NOSIGNAL) == (ssize_t)used ? 0 : -1;
}

static void watch(int fd, int how, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    epoll_ctl(poller, how, fd, &event);
}

static int send_request(int fd) {
    struct conn *c = &conns[fd];
    char out[HEAD];
    int n = snprintf(out, sizeof out,
                     "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n",
                     now.path, port, c->head);
    for (int i = 0; i < now.head_count; i++)
        n += snprintf(out + n, sizeof out - (size_t)n, "%s\r\n", now.heads[i]);
    if (now.protocol_count)
        n += snprintf(out + n, sizeof out - (size_t)n, "Sec-WebSocket-Protocol: %s\r\n",
                      now.protocols[c->number % (uint32_t)now.protocol_count]);
    if (tokens)
        n += snprintf(out + n, sizeof out - (size_t)n, "Authorization: Bearer %s\r\n",
                      tokens[c->number]);
    n += snprintf(out + n, sizeof out - (size_t)n, "\r\n");
    return send(fd, out, (size_t)n, MSG_NOSIGNAL) == n ? 0 : -1;
}

static void start(int group, int number) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    if (fd < 0 || fd >= MOST) {
        note(fd < 0 ? strerror(errno) : "too many descriptors");
        if (fd >= 0) close(fd);
        failures++, done++;
        return;
    }
    struct sockaddr_in from = {.sin_family = AF_INET}, to = from;
    /* Sources other than 127.0.0.1: each has its own ephemeral ports. */
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(number % sources));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK), to.sin_port = htons((uint16_t)port);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct conn *c = &conns[fd];
    memset(c, 0, sizeof *c);
    c->group = (uint8_t)group, c->number = (uint32_t)number, c->head = malloc(KEYS + HEAD);
    c->began = clock_now();
    in_flight++;
    uint64_t key[2] = {random64(), random64()};
    base64((uint8_t *)key, 16, c->head);
    if (bind(fd, (struct sockaddr *)&from, sizeof from) ||
        (connect(fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS)) {
        fail(fd, strerror(errno));
        return;
    }
    /* On loopback the connection is usually there by now, which saves a turn of the poller. */
    if (send_request(fd) == 0) c->state = UPGRADING, watch(fd, EPOLL_CTL_ADD, EPOLLIN);
    else c->state = CONNECTING, watch(fd, EPOLL_CTL_ADD, EPOLLOUT);
}

static void opened(int fd) {
    conns[fd].state = OPEN, open_count++;
    conns[fd].texts = 0;
    free(conns[fd].head), conns[fd].head = NULL;
    if (now.text && send_frames(fd, TEXT, now.text, strlen(now.text), 1) < 0) {
        fail(fd, "first message not sent");
        return;
    }
    if (!now.answers) attempted(conns[fd].began);
}

static void frame_ended(int fd) {
    struct conn *c = &conns[fd];
    const char *payload = (char *)c->frame.payload;
    frames_seen++;
    if (c->frame.opcode == PING) {
        pings++;
        send_frames(fd, PONG, payload, c->frame.kept, 1);
    } else if (c->frame.opcode == CLOSE) {
        int code = close_code(&c->frame);
        c->close_code = (uint16_t)code;
        if (code < 5000) closes[code]++;
        send_frames(fd, CLOSE, payload, c->frame.kept < 2 ? 0 : 2, 1);
    } else if (c->frame.opcode != PONG) {
        c->texts++, bytes_seen += (long)c->frame.size;
        if (now.doing == OPENING && c->group == groups && c->texts == (uint32_t)now.answers)
            attempted(c->began);
        else if (now.doing == FANNING && c->group == now.group) done++;
        else if (now.doing == ECHOING && c->group == now.group) {
            done++;
            if (c->frame.size != (uint64_t)now.size) wrong_sizes++;
            if (resend && send_frames(fd, TEXT, now.text, (size_t)now.size, 1) < 0) wrong_sizes++;
        }
    }
}

static void read_frames(int fd, const uint8_t *data, size_t n) {
    struct conn *c = &conns[fd];
    while ((c->state == OPEN || c->state == REFUSED) && next_frame(&c->frame, &data, &n))
        frame_ended(fd);
}

static void read_head(int fd, const uint8_t *data, size_t n) {
    struct conn *c = &conns[fd];
    char *head = c->head + KEYS, accept[29], line[64];
    if (n > HEAD - 1 - c->head_length) n = HEAD - 1 - c->head_length;
    memcpy(head + c->head_length, data, n);
    head[c->head_length += (uint32_t)n] = 0;
    char *end = strstr(head, "\r\n\r\n");
    if (!end) return;
    c->status = (uint16_t)(strncmp(head, "HTTP/1.1 ", 9) ? 0 : atoi(head + 9));
    if (c->status != 101) {
        if (now.doing == REFUSING) c->state = REFUSED;
        else snprintf(line, sizeof line, "%.*s", (int)strcspn(head, "\r"), head), fail(fd, line);
        return;
    }
    accept_key(c->head, accept);
    char *field = strcasestr(head, "sec-websocket-accept: ");
    if (!field || field > end || strncmp(field + 22, accept, 28)) {
        fail(fd, "wrong Sec-WebSocket-Accept");
        return;
    }
    if (now.doing == VISITING) {
        attempted(c->began);
        forget(fd, 1);
        return;
    }
    size_t rest = c->head_length - (size_t)(end + 4 - head);
    uint8_t after[HEAD];
    memcpy(after, end + 4, rest);
    if (now.doing == REFUSING) c->state = REFUSED;
    else opened(fd);
    if (conns[fd].state && rest) read_frames(fd, after, rest);
}

static void ended(int fd, const char *how) {
    struct conn *c = &conns[fd];
    if (c->state == REFUSED) {
        statuses[c->status < 600 ? c->status : 0]++;
        if (*how == 'r') resets++; /* the answer was read, but the peer did not end well */
        attempted(c->began);
        forget(fd, 0); /* as a real client would: the server has ended first */
    } else if (c->state == OPEN) {
        unexpected_closes++;
        note(how);
        /* It was still awaited by the `open` that is running. */
        if (now.doing == OPENING && c->group == groups && c->texts < (uint32_t)now.answers)
            attempted(c->began), failures++;
        forget(fd, 0);
    } else {
        if (*how == 'r') resets++;
        fail(fd, how);
    }
}

static void ready(int fd) {
    static uint8_t input[1 << 16];
    struct conn *c = &conns[fd];
    if (c->state == UNUSED) return;
    if (c->state == CONNECTING) {
        if (send_request(fd) < 0) {
            if (errno != EAGAIN) fail(fd, strerror(errno));
            return;
        }
        c->state = UPGRADING;
        watch(fd, EPOLL_CTL_MOD, EPOLLIN);
        return;
    }
    ssize_t n = recv(fd, input, sizeof input, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) { ended(fd, n ? "reset by the server" : "closed by the server"); return; }
    if (c->state == UPGRADING) read_head(fd, input, (size_t)n);
    else if (c->state == OPEN || c->status == 101) read_frames(fd, input, (size_t)n);
}

/* One turn of the poller; `wait` in milliseconds. Returns 1 when stdin has something. */
static int turn(int wait) {
    static struct epoll_event events[EVENTS];
    int told = 0, n = epoll_wait(poller, events, EVENTS, wait);
    for (int i = 0; i < n; i++)
        if (events[i].data.fd == STDIN_FILENO) told = 1;
        else ready(events[i].data.fd);
    return told;
}

#endif

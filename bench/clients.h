/* The clients of the herd: coming, being refused, settling, sending, and their timers.
 *
 * Part of herd.c, which has the commands.
 */
#ifndef BENCH_CLIENTS_H
#define BENCH_CLIENTS_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "ws.h"

#include "figures.h"

enum { MOST = 65536, CLIENTS = 1 << 18, GROUPS = 16, PORTS = 8, HEADS = 8, HEAD = 2048, FLIGHT = 1024 };
enum { EVENTS = 64, STARTS = 8 }; /* few at a time: those that measure latency must not wait here */
enum state { AWAY, CONNECTING, UPGRADING, REFUSED, OPEN, SETTLED, GONE };

static const double PATIENCE = 10, USUAL_DELAY = 1;
static const char KEY[] = "dGhlIHNhbXBsZSBub25jZQ==", ACCEPT[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

struct flight {
    double sent[FLIGHT];   /* by the kernel's clock */
    unsigned first, count; /* messages on their way, the oldest first */
};

struct client {
    int fd;
    uint8_t group, state, cut;
    uint16_t status;
    unsigned timer;        /* the number of its one timer; those with older numbers are void */
    unsigned texts, said;
    long heard;            /* the last number in a text */
    double since, delay;   /* when it came first or was cut; what it was told */
    double next;           /* when it sends again */
    struct splitter frame;
    struct flight *flight; /* of those that send */
    char *head;            /* while the handshake lasts */
    unsigned head_length;
};

struct group {
    int first, n, answers, silent, again, settled, gone;
    char *path, *greeting, *text, *heads[HEADS], **tokens;
    int head_count;
    double rate, stay, every;
};

struct timer { double at; int client; unsigned number; };

struct heap { /* the earliest first */
    struct timer *timers;
    size_t count, room;
};

static struct client *clients;
static struct group groups[GROUPS];
static struct heap sending, others; /* those that send come first when the time of many is due */
static int group_count, client_count, owner[MOST], poller;
static int ports[PORTS], port_count; /* clients come to one after the other of them */
static double came; /* when what is being read came in, by the kernel's clock */

static double seconds(const struct timespec *t) {
    return (double)t->tv_sec + (double)t->tv_nsec / 1e9;
}

static double clock_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return seconds(&t);
}

/* The kernel's own clock for what comes in. */
static double kernel_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return seconds(&t);
}

static void set_timer(int who, double at) {
    struct client *c = &clients[who];
    struct heap *h = c->state == SETTLED && groups[c->group].every ? &sending : &others;
    if (h->count == h->room)
        h->timers = realloc(h->timers, (h->room = h->room ? 2 * h->room : 4096) * sizeof *h->timers);
    size_t i = h->count++;
    for (; i && h->timers[(i - 1) / 2].at > at; i = (i - 1) / 2)
        h->timers[i] = h->timers[(i - 1) / 2];
    h->timers[i] = (struct timer){at, who, ++c->timer};
}

/* Takes the earliest timer that is due: its client, or -1. */
static int due(struct heap *h, double now) {
    while (h->count && h->timers[0].at <= now) {
        struct timer top = h->timers[0], last = h->timers[--h->count];
        size_t i = 0, child;
        for (; (child = 2 * i + 1) < h->count; h->timers[i] = h->timers[child], i = child) {
            if (child + 1 < h->count && h->timers[child + 1].at < h->timers[child].at) child++;
            if (h->timers[child].at >= last.at) break;
        }
        h->timers[i] = last;
        if (top.number == clients[top.client].timer) return top.client;
    }
    return -1;
}

/* One client. */

static void drop(int who, int reset) {
    struct client *c = &clients[who];
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    if (c->fd < 0) return;
    if (reset) setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    if (c->state == SETTLED) groups[c->group].settled--;
    close(c->fd);
    free(c->head), c->head = NULL;
    c->fd = -1, c->state = AWAY, c->timer++;
    c->frame.have = 0, c->frame.left = 0;
    if (c->flight) c->flight->count = 0;
}

static void leave(int who) {
    drop(who, 1);
    if (groups[clients[who].group].again) {
        clients[who].since = 0; /* it comes as if it had never been there */
        set_timer(who, clock_now());
        return;
    }
    clients[who].state = GONE, groups[clients[who].group].gone++;
}

static void come_again(int who, double delay) {
    double now = clock_now();
    if (clients[who].state >= OPEN) clients[who].since = now; /* it was in, and lost that */
    drop(who, 0);
    set_timer(who, now + delay);
}

static void refused(int who) {
    double delay = clients[who].delay;
    seen.refused[second_of(clock_now())]++;
    clients[who].state = REFUSED;
    come_again(who, delay < 0 ? USUAL_DELAY : delay);
}

static void watch(int who, int how, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = clients[who].fd};
    epoll_ctl(poller, how, clients[who].fd, &event);
}

static int say(int who, int opcode, const char *text, size_t n) {
    static const uint8_t mask[4] = {0x5a, 0x17, 0xc3, 0x88};
    uint8_t out[4096];
    size_t head = frame_header(out, opcode, n, mask);
    memcpy(out + head, text, n);
    apply_mask(out + head, n, mask);
    return send(clients[who].fd, out, head + n, MSG_NOSIGNAL) == (ssize_t)(head + n) ? 0 : -1;
}

/* Sends a text with @ and # filled in. */
static int say_text(int who, const char *text) {
    struct client *c = &clients[who];
    char out[4000];
    size_t n = 0;
    for (; *text && n < sizeof out - 16; text++)
        if (*text == '@') n += (size_t)sprintf(out + n, "%d", who - groups[c->group].first);
        else if (*text == '#') n += (size_t)sprintf(out + n, "%u", c->said);
        else out[n++] = *text;
    c->said++;
    return say(who, TEXT, out, n);
}

static void request(int who) {
    struct client *c = &clients[who];
    struct group *g = &groups[c->group];
    char out[4096];
    int n = snprintf(out, sizeof out,
                     "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n",
                     g->path, ports[who % port_count], KEY);
    for (int i = 0; i < g->head_count; i++) n += sprintf(out + n, "%s\r\n", g->heads[i]);
    if (g->tokens)
        n += sprintf(out + n, "Authorization: Bearer %s\r\n", g->tokens[who - g->first]);
    n += sprintf(out + n, "\r\n");
    if (send(c->fd, out, (size_t)n, MSG_NOSIGNAL) != n) {
        seen.failed++, come_again(who, USUAL_DELAY);
        return;
    }
    c->state = UPGRADING;
    watch(who, EPOLL_CTL_MOD, EPOLLIN);
}

static void come(int who) {
    struct client *c = &clients[who];
    int one = 1, small = 4096, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0 || fd >= MOST) { fprintf(stderr, "herd: %s\n", strerror(errno)); exit(2); }
    struct sockaddr_in from = {.sin_family = AF_INET}, to = from;
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + (uint32_t)who);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK), to.sin_port = htons((uint16_t)ports[who % port_count]);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    /* Little room in the kernel, so that what is not read waits in the server. */
    if (groups[c->group].silent) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    c->fd = fd, owner[fd] = who, c->state = CONNECTING;
    c->texts = c->said = c->status = 0, c->heard = -1, c->delay = -1;
    c->head = malloc(HEAD), c->head_length = 0;
    double now = clock_now();
    if (!c->since) c->since = now;
    seen.attempts[second_of(now)]++;
    set_timer(who, now + PATIENCE);
    if (bind(fd, (struct sockaddr *)&from, sizeof from) ||
        (connect(fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS)) {
        seen.failed++, come_again(who, USUAL_DELAY);
        return;
    }
    watch(who, EPOLL_CTL_ADD, EPOLLOUT);
}

static void admitted(int who) {
    struct client *c = &clients[who];
    struct group *g = &groups[c->group];
    double now = clock_now();
    seen.admitted[second_of(now)]++, keep(&seen.admissions, now);
    if (g->greeting && say_text(who, g->greeting) < 0) seen.failed++;
}

static void settled(int who) {
    struct client *c = &clients[who];
    struct group *g = &groups[c->group];
    double now = clock_now();
    c->state = SETTLED, g->settled++, c->said = 0;
    keep(&seen.back, now - c->since);
    c->timer++; /* its patience is not needed any more */
    if (g->silent) watch(who, EPOLL_CTL_MOD, 0);
    if (g->every) {
        int one = 1;
        if (!c->flight) c->flight = calloc(1, sizeof *c->flight);
        setsockopt(c->fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one);
        /* Evenly spread, so that their messages are no burst. */
        c->next = now + g->every * ((who - g->first) % g->n + 1) / g->n;
        set_timer(who, c->next);
    } else if (g->stay) set_timer(who, now + g->stay);
}

/* The turn of a client has come: to be cut, to come, to give up, to send or to leave. */
static void turn_of(int who) {
    struct client *c = &clients[who];
    struct group *g = &groups[c->group];
    if (c->cut) {
        c->cut = 0;
        drop(who, 1);
        set_timer(who, clock_now());
    } else if (c->state == AWAY) {
        come(who);
    } else if (c->state < SETTLED) {
        seen.gave_up[second_of(clock_now())]++, come_again(who, USUAL_DELAY);
    } else if (g->every) {
        struct flight *f = c->flight;
        keep(&seen.late, clock_now() - c->next);
        if (f->count < FLIGHT) f->sent[(f->first + f->count++) % FLIGHT] = kernel_now();
        if (say_text(who, g->text) < 0) seen.failed++;
        set_timer(who, c->next += g->every);
    } else leave(who);
}

static char *payload_text(struct splitter *frame) {
    frame->payload[frame->kept < sizeof frame->payload ? frame->kept : sizeof frame->payload - 1] = 0;
    return (char *)frame->payload;
}

static void heard_text(int who) {
    struct client *c = &clients[who];
    struct group *g = &groups[c->group];
    seen.messages++;
    if (c->state == OPEN) {
        if (strstr(payload_text(&c->frame), "\"queue_status\"")) return; /* it is not in yet */
        if (!c->texts++) admitted(who);
        if ((int)c->texts >= g->answers) settled(who);
    } else if (c->flight) {
        struct flight *f = c->flight;
        if (!f->count) return;
        double took = came - f->sent[f->first];
        f->first = (f->first + 1) % FLIGHT, f->count--;
        keep(&seen.latency[second_of(clock_now() - took)], took);
    } else {
        const char *number = strstr(payload_text(&c->frame), "\"n\":");
        if (!number) return;
        long n = atol(number + 4);
        if (c->heard >= 0 && n != c->heard + 1) seen.gaps++;
        c->heard = n;
    }
}

static void heard_close(int who) {
    struct client *c = &clients[who];
    say(who, CLOSE, (char *)c->frame.payload, c->frame.kept < 2 ? 0 : 2);
    const char *delay = c->frame.kept > 2 ? strstr(payload_text(&c->frame) + 2, "\"retryAfter\":") : 0;
    if (delay) c->delay = atof(delay + 13);
    if (c->state == OPEN && !c->texts) {
        refused(who);
        return;
    }
    keep(&seen.closes, clock_now());
    come_again(who, c->delay < 0 ? USUAL_DELAY : c->delay);
}

static void read_frames(int who, const uint8_t *data, size_t n) {
    struct client *c = &clients[who];
    while (c->state >= OPEN && c->state != GONE && next_frame(&c->frame, &data, &n))
        if (c->frame.opcode == CLOSE) heard_close(who);
        else if (c->frame.opcode == PING) say(who, PONG, (char *)c->frame.payload, c->frame.kept);
        else if (c->frame.opcode != PONG) heard_text(who);
}

static void read_head(int who, const uint8_t *data, size_t n) {
    struct client *c = &clients[who];
    char *end, *field;
    if (n > HEAD - 1 - c->head_length) n = HEAD - 1 - c->head_length;
    memcpy(c->head + c->head_length, data, n);
    c->head[c->head_length += (unsigned)n] = 0;
    if (!(end = strstr(c->head, "\r\n\r\n"))) return;
    c->status = (uint16_t)atoi(c->head + strcspn(c->head, " "));
    if (c->status != 101) {
        field = strcasestr(c->head, "\r\nretry-after: ");
        if (field && field < end) c->delay = atof(field + 15);
        refused(who);
        return;
    }
    if (!strstr(c->head, ACCEPT)) { fprintf(stderr, "herd: wrong answer: %s\n", c->head); exit(2); }
    uint8_t rest[HEAD];
    size_t left = c->head_length - (size_t)(end + 4 - c->head);
    memcpy(rest, end + 4, left);
    free(c->head), c->head = NULL;
    c->state = OPEN;
    if (!groups[c->group].answers) admitted(who), settled(who);
    read_frames(who, rest, left);
}

/* Reads, and notes when the kernel had what was read: what these clients do takes time as well. */
static ssize_t read_some(int fd, uint8_t *into, size_t room) {
    char notes[CMSG_SPACE(sizeof(struct timespec))];
    struct iovec part = {into, room};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = notes,
                             .msg_controllen = sizeof notes};
    ssize_t n = recvmsg(fd, &message, 0);
    if (n <= 0) return n;
    struct cmsghdr *note = CMSG_FIRSTHDR(&message);
    if (note && note->cmsg_type == SCM_TIMESTAMPNS) {
        struct timespec t;
        memcpy(&t, CMSG_DATA(note), sizeof t);
        came = seconds(&t);
    } else came = kernel_now();
    return n;
}

static void ready(int fd, uint32_t events) {
    static uint8_t input[1 << 16];
    int who = owner[fd];
    struct client *c = &clients[who];
    if (c->fd != fd) return;
    if (c->state == CONNECTING && !(events & (EPOLLERR | EPOLLHUP))) { request(who); return; }
    ssize_t n = read_some(fd, input, sizeof input);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        if (c->state == SETTLED) seen.lost++;
        else seen.failed++;
        come_again(who, USUAL_DELAY);
    } else if (c->state == UPGRADING) read_head(who, input, (size_t)n);
    else read_frames(who, input, (size_t)n);
}

#endif

/* The yardstick: the least that a WebSocket server can do, in C on one epoll.
 *
 * A real opening handshake, echo on any path, and on /fan every text message goes to all
 * connections on /fan with one send() each. No limits, no timeouts, no UTF-8 check, no outbox:
 * a peer that does not take a frame whole is dropped, which never happens at the loads used here.
 *
 *     bare PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../ws.h"

enum { EVENTS = 1024, READ = 1 << 17 };

struct conn {
    uint8_t *partial;  /* the start of a frame or head that is not all here yet; rarely there */
    uint32_t length;   /* of `partial` */
    uint32_t place;    /* in `members`, or NONE */
    uint8_t open;      /* the handshake is done */
};
#define NONE UINT32_MAX
#define GONE (-2)

static struct conn *conns; /* by file descriptor */
static int *members, poller;
static uint32_t member_count;
static uint8_t input[READ * 2];

static void drop(int fd) {
    struct conn *c = &conns[fd];
    if (c->place != NONE) {
        int last = members[--member_count];
        members[c->place] = last, conns[last].place = c->place;
    }
    free(c->partial);
    *c = (struct conn){.place = NONE};
    close(fd);
}

static void broadcast(int opcode, const uint8_t *payload, size_t n) {
    static uint8_t frame[READ * 2 + 14];
    size_t head = frame_header(frame, opcode, n, NULL);
    memcpy(frame + head, payload, n);
    for (uint32_t i = member_count; i-- > 0;) /* backwards: drop() moves the last one down */
        if (send(members[i], frame, head + n, MSG_NOSIGNAL) != (ssize_t)(head + n))
            drop(members[i]);
}

static int upgrade(int fd, char *head, size_t n) {
    char accept[29], out[256];
    char *key = memmem(head, n, "Sec-WebSocket-Key: ", 19);
    if (!key || key + 43 > head + n || memcmp(head, "GET ", 4)) return -1;
    accept_key(key + 19, accept);
    int size = snprintf(out, sizeof out,
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                        "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept);
    if (send(fd, out, (size_t)size, MSG_NOSIGNAL) != size) return -1;
    conns[fd].open = 1;
    if (!memcmp(head, "GET /fan ", 9))
        members[conns[fd].place = member_count++] = fd;
    return 0;
}

/* Handles what is whole in `data`; returns the bytes used, -1 to drop it, GONE if it is dropped. */
static ssize_t handle(int fd, uint8_t *data, size_t n) {
    size_t used = 0;
    if (!conns[fd].open) {
        uint8_t *end = memmem(data, n, "\r\n\r\n", 4);
        if (!end) return n > 16384 ? -1 : 0;
        used = (size_t)(end + 4 - data);
        if (upgrade(fd, (char *)data, used) < 0) return -1;
    }
    while (n - used >= 2) {
        uint8_t *p = data + used;
        size_t head = header_size(p);
        if (n - used < head) break;
        uint64_t size = payload_size(p);
        if (size > READ) return -1;
        if (n - used < head + size) break;
        int opcode = p[0] & 15;
        if (!(p[1] & 128) || opcode == CLOSE) return -1;
        apply_mask(p + head, size, p + head - 4);
        used += head + size;
        if (opcode == PONG) continue;
        if (conns[fd].place != NONE && opcode == TEXT) {
            broadcast(opcode, p + head, size);
            if (!conns[fd].open) return GONE;
            continue;
        }
        /* An unmasked header is 4 bytes shorter, so the answer fits in the place of the frame. */
        uint8_t *answer = p + 4;
        frame_header(answer, opcode == PING ? PONG : opcode, size, NULL);
        if (send(fd, answer, head - 4 + size, MSG_NOSIGNAL) != (ssize_t)(head - 4 + size))
            return -1;
    }
    return (ssize_t)used;
}

static void readable(int fd) {
    struct conn *c = &conns[fd];
    size_t had = c->length;
    ssize_t n = recv(fd, input + had, READ, 0), used;
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) { drop(fd); return; }
    if (had) memcpy(input, c->partial, had), free(c->partial), c->partial = NULL, c->length = 0;
    size_t total = had + (size_t)n;
    used = handle(fd, input, total);
    if (used == GONE) return;
    if (used < 0 || total - (size_t)used > READ) { drop(fd); return; }
    if ((size_t)used < total) {
        c->length = (uint32_t)(total - (size_t)used);
        c->partial = malloc(c->length);
        memcpy(c->partial, input + used, c->length);
    }
}

int main(int argc, char **argv) {
    struct epoll_event events[EVENTS], event = {.events = EPOLLIN};
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    size_t most = files.rlim_max > 1 << 20 ? 1 << 20 : files.rlim_max;
    conns = calloc(most, sizeof *conns), members = calloc(most, sizeof *members);
    for (size_t i = 0; i < most; i++) conns[i].place = NONE;

    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)atoi(argc > 1 ? argv[1] : "9000")),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, &one, sizeof one);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* inherited */
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
        perror("bare: listen");
        return 1;
    }
    poller = epoll_create1(0);
    event.data.fd = listener;
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int n = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd != listener) { readable(fd); continue; }
            for (int k = 0; k < 64; k++) { /* a share of each turn, so open connections go on */
                int peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (peer < 0) break;
                event.data.fd = peer;
                epoll_ctl(poller, EPOLL_CTL_ADD, peer, &event);
                readable(peer); /* deferred accept: the request is here */
            }
        }
    }
}

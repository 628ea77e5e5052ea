/* The parts of RFC 6455 that the load generators and the bare server share. */
#ifndef BENCH_WS_H
#define BENCH_WS_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { CONT = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };

static inline uint32_t rol(uint32_t x, int n) { return x << n | x >> (32 - n); }

static inline void sha1_block(uint32_t h[5], const uint8_t *p) {
    uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 16; i++, p += 4)
        w[i] = (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
    for (int i = 16; i < 80; i++) w[i] = rol(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (int i = 0; i < 80; i++) {
        uint32_t f, k;
        if (i < 20) f = (b & c) | (~b & d), k = 0x5A827999;
        else if (i < 40) f = b ^ c ^ d, k = 0x6ED9EBA1;
        else if (i < 60) f = (b & c) | (b & d) | (c & d), k = 0x8F1BBCDC;
        else f = b ^ c ^ d, k = 0xCA62C1D6;
        uint32_t t = rol(a, 5) + f + e + k + w[i];
        e = d, d = c, c = rol(b, 30), b = a, a = t;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
}

/* Messages under 120 bytes only: a key and the GUID are 60. */
static inline void sha1(const uint8_t *data, size_t n, uint8_t out[20]) {
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    uint8_t block[128] = {0};
    size_t total = n < 56 ? 64 : 128;
    memcpy(block, data, n);
    block[n] = 0x80;
    block[total - 2] = (uint8_t)(n * 8 >> 8), block[total - 1] = (uint8_t)(n * 8);
    for (size_t i = 0; i < total; i += 64) sha1_block(h, block + i);
    for (int i = 0; i < 20; i++) out[i] = (uint8_t)(h[i / 4] >> (24 - i % 4 * 8));
}

static inline void base64(const uint8_t *in, size_t n, char *out) {
    static const char abc[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)in[i] << 16 | (i + 1 < n ? in[i + 1] << 8 : 0) |
                     (i + 2 < n ? in[i + 2] : 0);
        *out++ = abc[v >> 18], *out++ = abc[v >> 12 & 63];
        *out++ = i + 1 < n ? abc[v >> 6 & 63] : '=', *out++ = i + 2 < n ? abc[v & 63] : '=';
    }
    *out = 0;
}

/* Sec-WebSocket-Accept (28 characters) for a Sec-WebSocket-Key (24): section 4.2.2. */
static inline void accept_key(const char *key, char out[29]) {
    uint8_t digest[20];
    char text[64];
    memcpy(text, key, 24);
    memcpy(text + 24, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
    sha1((uint8_t *)text, 60, digest);
    base64(digest, 20, out);
}

/* Writes a frame's header and returns its length, at most 14. `mask` is NULL for a server's. */
static inline size_t frame_header(uint8_t *out, int opcode, size_t length, const uint8_t *mask) {
    uint8_t bit = mask ? 0x80 : 0;
    size_t n = 2;
    out[0] = 0x80 | opcode;
    if (length < 126) {
        out[1] = bit | (uint8_t)length;
    } else if (length < 65536) {
        out[1] = bit | 126, out[2] = (uint8_t)(length >> 8), out[3] = (uint8_t)length;
        n = 4;
    } else {
        out[1] = bit | 127;
        for (int i = 0; i < 8; i++) out[2 + i] = (uint8_t)((uint64_t)length >> (56 - 8 * i));
        n = 10;
    }
    if (mask) memcpy(out + n, mask, 4), n += 4;
    return n;
}

static inline void apply_mask(uint8_t *data, size_t n, const uint8_t mask[4]) {
    uint32_t word;
    size_t i = 0;
    memcpy(&word, mask, 4);
    for (; i + 4 <= n; i += 4) {
        uint32_t v;
        memcpy(&v, data + i, 4);
        v ^= word;
        memcpy(data + i, &v, 4);
    }
    for (; i < n; i++) data[i] ^= mask[i & 3];
}

/* Bytes of the header that starts with the two bytes at `p`. */
static inline size_t header_size(const uint8_t *p) {
    size_t n = (p[1] & 127) == 126 ? 4 : (p[1] & 127) == 127 ? 10 : 2;
    return n + (p[1] & 128 ? 4 : 0);
}

static inline uint64_t payload_size(const uint8_t *p) {
    uint64_t n = p[1] & 127;
    if (n == 126) return (uint64_t)p[2] << 8 | p[3];
    if (n == 127)
        for (int i = n = 0; i < 8; i++) n = n << 8 | p[2 + i];
    return n;
}

/* Splits what a server sends into frames, and keeps the beginning of each payload. */
struct splitter {
    uint8_t have, kept, opcode, header[14], payload[125];
    uint64_t size, left; /* of the payload: all of it, and what has not come yet */
};

/* Takes bytes off `data` until a frame is whole: 1, or 0 when there are no more bytes. */
static inline int next_frame(struct splitter *s, const uint8_t **data, size_t *n) {
    while (s->have < 2 || s->have < header_size(s->header)) {
        if (!*n) return 0;
        s->header[s->have++] = *(*data)++, --*n;
        if (s->have < 2 || s->have < header_size(s->header)) continue;
        s->opcode = s->header[0] & 15, s->kept = 0;
        s->left = s->size = payload_size(s->header);
    }
    size_t take = s->left < *n ? s->left : *n, room = sizeof s->payload - s->kept;
    size_t kept = take < room ? take : room;
    memcpy(s->payload + s->kept, *data, kept);
    s->kept += (uint8_t)kept;
    *data += take, *n -= take, s->left -= take;
    if (s->left) return 0;
    s->have = 0;
    return 1;
}

/* The status code of a close frame that was split off; 1005 when it has none. */
static inline int close_code(const struct splitter *s) {
    return s->kept >= 2 ? s->payload[0] << 8 | s->payload[1] : 1005;
}

#endif

// fanout: the least that a relay in one thread can do, as the reference (epoll and libpq).
//
// What NOTIFY carries is framed once into a log that only grows, and a terminal is an offset into it. Each message is
// one send per terminal; with `joined` all that is waiting goes out in one send per terminal. It knows no restaurants,
// no pings, and never forgets.
//
// cc -O2 -I$(pg_config --includedir) -o fanout fanout.c -lpq;  fanout PORT CONNINFO CHANNEL [joined]
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <libpq-fe.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256 };

typedef struct {
  int fd;
  uint32_t index;
  uint8_t open, pending;
  size_t offset;
} terminal_t;

static terminal_t **terminals;
static uint32_t count, capacity;
static uint8_t *log_bytes;
static size_t log_end;
static const size_t LOG_SIZE = 1ull << 32;
static int poller;

static uint32_t rotate(uint32_t x, int n) { return x << n | x >> (32 - n); }

// SHA-1 of at most 119 bytes (RFC 3174)
static void sha1(const uint8_t *data, size_t length, uint8_t out[20]) {
  uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
  uint8_t m[128] = {0};
  size_t total = (length + 9 + 63) / 64 * 64;
  uint64_t bits = length * 8;
  memcpy(m, data, length);
  m[length] = 0x80;
  for (int i = 0; i < 8; i++) m[total - 1 - i] = bits >> (8 * i);
  for (size_t at = 0; at < total; at += 64) {
    uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 16; i++) {
      const uint8_t *p = m + at + 4 * i;
      w[i] = (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
    }
    for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (int i = 0; i < 80; i++) {
      uint32_t f, k;
      if (i < 20) f = (b & c) | (~b & d), k = 0x5A827999;
      else if (i < 40) f = b ^ c ^ d, k = 0x6ED9EBA1;
      else if (i < 60) f = (b & c) | (b & d) | (c & d), k = 0x8F1BBCDC;
      else f = b ^ c ^ d, k = 0xCA62C1D6;
      uint32_t x = rotate(a, 5) + f + e + k + w[i];
      e = d, d = c, c = rotate(b, 30), b = a, a = x;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
  }
  for (int i = 0; i < 20; i++) out[i] = h[i / 4] >> (24 - 8 * (i % 4));
}

static void base64(const uint8_t *data, int length, char *out) {
  static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (int i = 0; i < length; i += 3) {
    uint32_t v = data[i] << 16 | (i + 1 < length ? data[i + 1] << 8 : 0) | (i + 2 < length ? data[i + 2] : 0);
    *out++ = letters[v >> 18];
    *out++ = letters[v >> 12 & 63];
    *out++ = i + 1 < length ? letters[v >> 6 & 63] : '=';
    *out++ = i + 2 < length ? letters[v & 63] : '=';
  }
  *out = 0;
}

static void drop(terminal_t *t) {
  close(t->fd);
  terminals[t->index] = terminals[--count];
  terminals[t->index]->index = t->index;
  free(t);
}

static void watch(terminal_t *t, int writing) {
  struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = t};
  epoll_ctl(poller, EPOLL_CTL_MOD, t->fd, &event);
  t->pending = writing;
}

static int push(terminal_t *t) {
  ssize_t sent = send(t->fd, log_bytes + t->offset, log_end - t->offset, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0) {
    if (errno != EAGAIN && errno != EINTR) return -1;
    sent = 0;
  }
  t->offset += sent;
  if ((t->offset < log_end) != t->pending) watch(t, t->offset < log_end);
  return 0;
}

static void append(const char *text) {
  size_t length = strlen(text);
  if (log_end + length + 10 > LOG_SIZE) abort();
  log_bytes[log_end++] = 0x81;
  if (length < 126) {
    log_bytes[log_end++] = length;
  } else {
    log_bytes[log_end++] = 126; // a payload of NOTIFY is shorter than 8,000 bytes
    log_bytes[log_end++] = length >> 8;
    log_bytes[log_end++] = length;
  }
  memcpy(log_bytes + log_end, text, length);
  log_end += length;
}

static void fan_out(void) {
  for (uint32_t i = 0; i < count;) {
    terminal_t *t = terminals[i];
    if (t->open && !t->pending && push(t) < 0) drop(t);
    else i++;
  }
}

static int take(terminal_t *t) {
  char request[4096];
  ssize_t got = recv(t->fd, request, sizeof request - 1, MSG_DONTWAIT);
  if (got < 0 && errno == EAGAIN) return 0;
  if (got <= 0) return -1;
  if (t->open) return (request[0] & 15) == 8 ? -1 : 0; // it answers nothing but a close
  request[got] = 0;
  char *key = strcasestr(request, "Sec-WebSocket-Key:");
  if (!key || !strstr(request, "\r\n\r\n")) return -1;
  key += 18;
  while (*key == ' ') key++;
  int length = strcspn(key, "\r\n ");
  if (length > 60) return -1;
  char text[128], accept[32], answer[256];
  uint8_t hash[20];
  length = snprintf(text, sizeof text, "%.*s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", length, key);
  sha1((uint8_t *)text, length, hash);
  base64(hash, 20, accept);
  length = snprintf(answer, sizeof answer,
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    "Sec-WebSocket-Accept: %s\r\n\r\n",
                    accept);
  if (send(t->fd, answer, length, MSG_NOSIGNAL) != length) return -1;
  t->open = 1;
  t->offset = log_end;
  return 0;
}

static void accept_all(int listening) {
  int fd, one = 1;
  while ((fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    terminal_t *t = calloc(1, sizeof *t);
    t->fd = fd;
    t->index = count;
    if (count == capacity) terminals = realloc(terminals, (capacity = capacity ? capacity * 2 : 256) * sizeof *terminals);
    terminals[count++] = t;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = t};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
  }
}

static PGconn *listen_to(const char *conninfo, const char *channel) {
  char statement[256];
  PGconn *pg = PQconnectdb(conninfo);
  if (PQstatus(pg) != CONNECTION_OK) {
    fprintf(stderr, "%s", PQerrorMessage(pg));
    exit(1);
  }
  char *quoted = PQescapeIdentifier(pg, channel, strlen(channel));
  snprintf(statement, sizeof statement, "listen %s", quoted);
  PQclear(PQexec(pg, statement));
  PQfreemem(quoted);
  return pg;
}

int main(int argc, char **argv) {
  if (argc < 4) {
    fprintf(stderr, "usage: fanout PORT CONNINFO CHANNEL [joined]\n");
    return 2;
  }
  int joined = argc > 4, one = 1;
  struct rlimit descriptors;
  getrlimit(RLIMIT_NOFILE, &descriptors);
  descriptors.rlim_cur = descriptors.rlim_max;
  setrlimit(RLIMIT_NOFILE, &descriptors);
  signal(SIGPIPE, SIG_IGN);
  log_bytes = mmap(NULL, LOG_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  PGconn *pg = listen_to(argv[2], argv[3]);
  int listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (bind(listening, (struct sockaddr *)&address, sizeof address) || listen(listening, 4096)) {
    perror("bind");
    return 1;
  }
  poller = epoll_create1(0);
  static terminal_t listener, database;
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = &listener}, events[EVENTS];
  epoll_ctl(poller, EPOLL_CTL_ADD, listening, &event);
  event.data.ptr = &database;
  epoll_ctl(poller, EPOLL_CTL_ADD, PQsocket(pg), &event);
  for (;;) {
    int found = epoll_wait(poller, events, EVENTS, -1);
    for (int i = 0; i < found; i++) {
      terminal_t *t = events[i].data.ptr;
      if (t == &listener) {
        accept_all(listening);
      } else if (t == &database) {
        if (!PQconsumeInput(pg)) {
          fprintf(stderr, "%s", PQerrorMessage(pg));
          return 1;
        }
        PGnotify *heard;
        int any = 0;
        while ((heard = PQnotifies(pg))) {
          append(heard->extra);
          PQfreemem(heard);
          any = 1;
          if (!joined) fan_out();
        }
        if (joined && any) fan_out();
        break; // terminals of the other events may be gone by now
      } else {
        if ((events[i].events & EPOLLOUT) && push(t) < 0) {
          drop(t);
          continue;
        }
        if ((events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && take(t) < 0) drop(t);
      }
    }
  }
}

// wsload: thousands of WebSocket terminals in one thread (RFC 6455 over epoll), cheap enough not to be what is measured.
//
// It connects, sends what a terminal says first, and prints READY on standard error once every terminal has had its
// first answers. Then it counts the text frames that hold a mark, "t":<nanoseconds since 1970>, and how old each mark
// is; or it sends changes itself (-B), paced (-P) or each terminal as fast as it is acknowledged (-a). With -w a byte
// on standard input begins that, and its end is the end. The result is one JSON object on standard output.
//
// cc -O2 -o wsload wsload.c
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum state { CONNECTING, HANDSHAKE, SIO_OPEN, SIO_CONNECT, SYNCING, READY, CLOSED };
enum { MOST_FIRST = 8, MOST_TEXT = 4096, EVENTS = 512 };

typedef struct {
  int fd;
  enum state state;
  uint8_t *buffer; // the bytes of an incomplete frame
  size_t length, capacity;
  uint32_t awaited; // text messages until it is synced
  uint32_t marked;
  int64_t last_number;
  int64_t number;  // of its last own change
  int64_t sent_at; // CLOCK_REALTIME, nanoseconds
} terminal_t;

typedef struct {
  uint32_t *microseconds;
  size_t length, capacity;
} ages_t;

static const char *host = "127.0.0.1", *path = "/", *template, *first[MOST_FIRST];
static int port = 8080, count = 100, restaurants = 1, most_in_flight = 128, socket_io, gather_us, by_stdin;
static int firsts, awaited[MOST_FIRST], awaiteds;
static long marks;
static double timeout_seconds = 60, closed_loop_seconds, warm_seconds = 0.5, rate;

static terminal_t *terminals;
static int poller, started, in_flight, ready, failed, closed_early, complete;
static uint64_t text_messages, total_marked, gaps, repeats, bytes_in, pings, sent, acknowledged, counted, refused;
static ages_t mark_ages, first_ages, ack_ages;
static int64_t first_at, last_at, oldest_mark = INT64_MAX, begun, count_from, count_until;
static uint8_t bytes[1 << 18];

static int64_t now_ns(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void note(ages_t *ages, int64_t nanoseconds) {
  int64_t age = nanoseconds / 1000;
  if (ages->length == ages->capacity) {
    ages->capacity = ages->capacity ? ages->capacity * 2 : 1 << 16;
    ages->microseconds = realloc(ages->microseconds, ages->capacity * sizeof *ages->microseconds);
  }
  ages->microseconds[ages->length++] = age < 0 ? 0 : age > UINT32_MAX ? UINT32_MAX : age;
}

static void drop(terminal_t *t) {
  if (t->state == CLOSED) return;
  if (t->state == READY) {
    closed_early++;
    if (marks && t->marked < marks) complete++;
  } else {
    in_flight--;
    failed++;
  }
  close(t->fd);
  free(t->buffer);
  *t = (terminal_t){.fd = -1, .state = CLOSED};
}

static void send_frame(terminal_t *t, int opcode, const void *data, size_t length) {
  uint8_t frame[MOST_TEXT + 14];
  size_t head = 0;
  if (length > MOST_TEXT) abort();
  frame[head++] = 0x80 | opcode;
  if (length < 126) {
    frame[head++] = 0x80 | length;
  } else {
    frame[head++] = 0x80 | 126;
    frame[head++] = length >> 8;
    frame[head++] = length;
  }
  uint32_t key = (uint32_t)random();
  memcpy(frame + head, &key, 4);
  const uint8_t *mask = frame + head;
  head += 4;
  for (size_t i = 0; i < length; i++) frame[head + i] = ((const uint8_t *)data)[i] ^ mask[i & 3];
  if (send(t->fd, frame, head + length, MSG_NOSIGNAL) != (ssize_t)(head + length)) drop(t);
}

// {i} the terminal's number, {r} its restaurant's, {n} its change's, {t} now
static size_t expand(char *out, const char *text, const terminal_t *t, int64_t number, int64_t now) {
  size_t length = 0, index = t - terminals;
  while (*text && length < MOST_TEXT - 32) {
    if (text[0] == '{' && text[1] && text[2] == '}' && strchr("irnt", text[1])) {
      int64_t value = text[1] == 'i'   ? (int64_t)index
                      : text[1] == 'r' ? (int64_t)(index % restaurants)
                      : text[1] == 'n' ? number
                                       : now;
      length += sprintf(out + length, "%lld", (long long)value);
      text += 3;
    } else {
      out[length++] = *text++;
    }
  }
  out[length] = 0;
  return length;
}

static void send_change(terminal_t *t, int64_t number) {
  char text[MOST_TEXT];
  t->number = number;
  t->sent_at = now_ns(CLOCK_REALTIME);
  sent++;
  send_frame(t, 1, text, expand(text, template, t, number, t->sent_at));
}

static void set_ready(terminal_t *t) {
  t->state = READY;
  ready++;
  in_flight--;
}

static void is_open(terminal_t *t) {
  // Terminals of one restaurant take turns in what they say first.
  int turn = (int)((t - terminals) / restaurants);
  t->awaited = awaiteds ? awaited[turn % awaiteds] : 0;
  if (t->awaited) t->state = SYNCING;
  else set_ready(t);
  if (firsts && *first[turn % firsts]) {
    char text[MOST_TEXT];
    send_frame(t, 1, text, expand(text, first[turn % firsts], t, 0, now_ns(CLOCK_REALTIME)));
  }
}

static void start(terminal_t *t) {
  int one = 1;
  t->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (t->fd < 0) {
    perror("socket");
    exit(2);
  }
  setsockopt(t->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  inet_pton(AF_INET, host, &address.sin_addr);
  t->state = CONNECTING;
  t->last_number = -1;
  in_flight++;
  started++;
  if (connect(t->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) {
    drop(t);
    return;
  }
  struct epoll_event event = {.events = EPOLLOUT, .data.ptr = t};
  epoll_ctl(poller, EPOLL_CTL_ADD, t->fd, &event);
}

// The number after "<letter>": in a text; also after \"<letter>\": inside a JSON string.
static int64_t number_after(const uint8_t *text, size_t length, char letter) {
  const uint8_t *at = text, *end = text + length;
  char key[2] = {'"', letter};
  while ((at = memmem(at, end - at, key, 2))) {
    const uint8_t *digit = at + 2;
    at += 2;
    if (digit < end && *digit == '\\') digit++;
    if (digit + 1 >= end || digit[0] != '"' || digit[1] != ':') continue;
    for (digit += 2; digit < end && *digit == ' ';) digit++;
    int64_t value = 0;
    const uint8_t *begin = digit;
    while (digit < end && *digit >= '0' && *digit <= '9') value = value * 10 + (*digit++ - '0');
    if (digit > begin) return value;
  }
  return -1;
}

static void take_answer(terminal_t *t, int applied, int64_t now) {
  if (!closed_loop_seconds) return;
  if (!applied) refused++;
  else {
    acknowledged++;
    if (now >= count_from && now < count_until) {
      counted++;
      note(&ack_ages, now - t->sent_at);
    }
  }
  if (now < count_until) send_change(t, t->number + 1);
}

static void take_text(terminal_t *t, const uint8_t *text, size_t length, int64_t now) {
  if (socket_io && length && text[0] == '2') { // engine.io's ping
    send_frame(t, 1, "3", 1);
    pings++;
    return;
  }
  switch (t->state) {
  case SIO_OPEN:
    if (length && text[0] == '0') {
      send_frame(t, 1, "40", 2);
      if (t->state != CLOSED) t->state = SIO_CONNECT;
    }
    return;
  case SIO_CONNECT:
    if (length >= 2 && text[0] == '4' && text[1] == '0') is_open(t);
    return;
  case SYNCING:
    if (!--t->awaited) set_ready(t);
    return;
  default: break;
  }
  text_messages++;
  size_t head = length < 40 ? length : 40;
  if (template && memmem(text, head, "\"type\":\"ACK\"", 12)) {
    take_answer(t, 1, now);
    return;
  }
  if (template && memmem(text, head, "\"type\":\"ERROR\"", 14)) {
    if (!refused) fprintf(stderr, "refused: %.*s\n", (int)(length < 300 ? length : 300), text);
    take_answer(t, 0, now);
    return;
  }
  int64_t mark = number_after(text, length, 't');
  if (mark < 1000000000000000) return;
  t->marked++;
  total_marked++;
  int64_t number = number_after(text, length, 'n');
  // Of a paced load each terminal in turn sends one: a relay then learns who it is.
  note(rate && number <= count ? &first_ages : &mark_ages, now - mark);
  if (!first_at) first_at = now;
  last_at = now;
  if (mark < oldest_mark) oldest_mark = mark;
  if (number >= 0) {
    if (t->last_number >= 0 && number != t->last_number + 1) gaps++;
    if (number <= t->last_number) repeats++;
    t->last_number = number;
  }
  if (marks && t->marked == marks) complete++;
}

// Takes the complete frames of p[0..length); the bytes taken, or -1 where the connection is to be closed.
static ssize_t take_frames(terminal_t *t, uint8_t *p, size_t length, int64_t now) {
  size_t offset = 0;
  while (t->state != CLOSED && length - offset >= 2) {
    uint8_t *frame = p + offset;
    size_t head = 2;
    uint64_t size = frame[1] & 0x7f;
    if (frame[1] & 0x80) return -1; // a server must not mask
    if (size == 126) {
      head = 4;
      if (length - offset < head) break;
      size = frame[2] << 8 | frame[3];
    } else if (size == 127) {
      head = 10;
      if (length - offset < head) break;
      size = 0;
      for (int i = 0; i < 8; i++) size = size << 8 | frame[2 + i];
    }
    if (length - offset < head + size) break;
    switch (frame[0] & 15) {
    case 0: break; // the rest of a message that was counted at its beginning
    case 1: take_text(t, frame + head, size, now); break;
    case 2: break;
    case 8: return -1;
    case 9:
      pings++;
      send_frame(t, 10, frame + head, size);
      break;
    case 10: break;
    default: return -1;
    }
    offset += head + size;
  }
  return offset;
}

static void read_some(terminal_t *t) {
  size_t held = t->length, capacity = sizeof bytes;
  uint8_t *p = bytes;
  if (held > sizeof bytes / 2) { // a very large frame is read into the terminal's own buffer
    if (t->capacity < held + sizeof bytes) t->buffer = realloc(t->buffer, t->capacity = held * 2 + sizeof bytes);
    p = t->buffer;
    capacity = t->capacity;
  } else if (held) {
    memcpy(bytes, t->buffer, held);
  }
  ssize_t got = recv(t->fd, p + held, capacity - held, 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    drop(t);
    return;
  }
  bytes_in += got;
  size_t length = held + got, offset = 0;
  if (t->state == HANDSHAKE) {
    uint8_t *end = memmem(p, length, "\r\n\r\n", 4);
    if (end) {
      if (length < 12 || memcmp(p, "HTTP/1.1 101", 12)) {
        fprintf(stderr, "refused: %.*s\n", (int)(length < 160 ? length : 160), p);
        drop(t);
        return;
      }
      offset = end + 4 - p;
      if (socket_io) t->state = SIO_OPEN;
      else is_open(t);
    }
  }
  if (t->state > HANDSHAKE && t->state < CLOSED) {
    ssize_t taken = take_frames(t, p + offset, length - offset, now_ns(CLOCK_REALTIME));
    if (taken < 0) {
      drop(t);
      return;
    }
    offset += taken;
  }
  if (t->state == CLOSED) return;
  size_t rest = length - offset;
  if (rest && p == t->buffer) {
    memmove(t->buffer, p + offset, rest);
  } else if (rest) {
    if (t->capacity < rest) t->buffer = realloc(t->buffer, t->capacity = rest + 1024);
    memcpy(t->buffer, p + offset, rest);
  }
  t->length = rest;
}

static void take_event(terminal_t *t, uint32_t events) {
  if (t->state == CLOSED) return;
  if (t->state != CONNECTING) {
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_some(t);
    return;
  }
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &error, &size);
  char request[MOST_TEXT + 512], where[MOST_TEXT];
  expand(where, path, t, 0, 0);
  int length = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                        where, host, port);
  if (error || send(t->fd, request, length, MSG_NOSIGNAL) != length) {
    drop(t);
    return;
  }
  t->state = HANDSHAKE;
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = t};
  epoll_ctl(poller, EPOLL_CTL_MOD, t->fd, &event);
}

static void begin(void) {
  begun = now_ns(CLOCK_REALTIME);
  count_from = begun + (int64_t)(warm_seconds * 1e9);
  count_until = count_from + (int64_t)(closed_loop_seconds * 1e9);
  if (closed_loop_seconds)
    for (int i = 0; i < count; i++)
      if (terminals[i].state == READY) send_change(&terminals[i], 1);
}

// Sends what is due of a paced load; the milliseconds until more is.
static int send_due(void) {
  static int turn;
  while (begun && rate && sent < (uint64_t)marks) {
    int64_t due = begun + (int64_t)(sent / rate * 1e9), now = now_ns(CLOCK_REALTIME);
    if (now < due) return (int)((due - now) / 1000000) + 1;
    turn = (turn + 1) % count;
    if (terminals[turn].state == READY) send_change(&terminals[turn], (int64_t)sent + 1);
    else if (closed_early >= ready) break;
  }
  return 100;
}

static int compare(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

static void print_ages(const char *name, ages_t *ages) {
  double parts[] = {0, .5, .95, .99, 1};
  const char *names[] = {"min", "p50", "p95", "p99", "max"};
  qsort(ages->microseconds, ages->length, sizeof *ages->microseconds, compare);
  printf("\"%s\": {", name);
  for (int i = 0; i < 5; i++) {
    size_t at = ages->length ? (size_t)(parts[i] * (ages->length - 1) + 0.5) : 0;
    printf("%s\"%s\": %.3f", i ? ", " : "", names[i], ages->length ? ages->microseconds[at] / 1000.0 : 0);
  }
  printf("}, ");
}

static double cpu_seconds(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void read_options(int argc, char **argv) {
  int option;
  while ((option = getopt(argc, argv, "p:u:n:q:f:e:c:m:t:g:sB:P:a:z:w")) != -1) switch (option) {
    case 'p': port = atoi(optarg); break;
    case 'u': path = optarg; break;
    case 'n': count = atoi(optarg); break;
    case 'q': restaurants = atoi(optarg); break;
    case 'f': if (firsts < MOST_FIRST) first[firsts++] = optarg; break;
    case 'e': if (awaiteds < MOST_FIRST) awaited[awaiteds++] = atoi(optarg); break;
    case 'c': most_in_flight = atoi(optarg); break;
    case 'm': marks = atol(optarg); break;
    case 't': timeout_seconds = atof(optarg); break;
    case 'g': gather_us = atoi(optarg); break;
    case 's': socket_io = 1; break;
    case 'B': template = optarg; break;
    case 'P': rate = atof(optarg); break;
    case 'a': closed_loop_seconds = atof(optarg); break;
    case 'z': warm_seconds = atof(optarg); break;
    case 'w': by_stdin = 1; break;
    default:
      fprintf(stderr,
              "usage: wsload [-p port] [-u path] [-n terminals] [-q restaurants] [-c handshakes at once]\n"
              "  [-f first text]... [-e texts until synced]... (in turn) [-s: Socket.IO] [-w: obey standard input]\n"
              "  [-m marks for each] [-t seconds at most] [-g microseconds to rest between reads, once ready]\n"
              "  [-B text of a change, with {i} {r} {n} {t}] [-P changes a second | -a seconds [-z before them]]\n");
      exit(2);
    }
  if ((rate || closed_loop_seconds) && !template) exit(2);
}

int main(int argc, char **argv) {
  read_options(argc, argv);
  struct rlimit descriptors;
  getrlimit(RLIMIT_NOFILE, &descriptors);
  descriptors.rlim_cur = descriptors.rlim_max;
  setrlimit(RLIMIT_NOFILE, &descriptors);
  terminals = calloc(count, sizeof *terminals);
  poller = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event events[EVENTS], input = {.events = EPOLLIN};
  if (by_stdin && epoll_ctl(poller, EPOLL_CTL_ADD, 0, &input)) by_stdin = 0;
  int64_t t0 = now_ns(CLOCK_MONOTONIC), ready_at = 0, deadline = t0 + (int64_t)(timeout_seconds * 1e9);
  double connect_cpu = 0, connect_seconds = 0;
  const char *why = "timeout";
  for (;;) {
    while (!ready_at && started < count && in_flight < most_in_flight) start(&terminals[started]);
    int64_t now = now_ns(CLOCK_MONOTONIC);
    if (!ready_at && (ready + failed == count || now > deadline)) {
      ready_at = now;
      connect_seconds = (now - t0) / 1e9;
      connect_cpu = cpu_seconds();
      fprintf(stderr, "READY %d %d %.3f\n", ready, failed, connect_seconds);
      deadline = now + (int64_t)(timeout_seconds * 1e9);
      if (!by_stdin) begin();
    }
    if (ready_at && marks && complete >= ready) {
      why = "complete";
      break;
    }
    if (begun && closed_loop_seconds && now_ns(CLOCK_REALTIME) > count_until && acknowledged + refused >= sent) {
      why = "complete";
      break;
    }
    if (ready_at && now > deadline) break;
    int wait = send_due(), found;
    if (ready_at && gather_us) {
      // So that not each of the server's writes has to wake this process.
      found = epoll_wait(poller, events, EVENTS, 0);
      if (found < EVENTS) usleep(gather_us);
    } else {
      found = epoll_wait(poller, events, EVENTS, wait);
    }
    int ended = 0;
    for (int i = 0; i < found; i++) {
      if (events[i].data.ptr) {
        take_event(events[i].data.ptr, events[i].events);
        continue;
      }
      char byte;
      if (read(0, &byte, 1) == 1) begin();
      else ended = 1;
    }
    if (ended) {
      why = "told to end";
      break;
    }
  }
  uint64_t expected = (uint64_t)marks * count;
  double between = (last_at - first_at) / 1e9, from_mark = total_marked ? (last_at - oldest_mark) / 1e9 : 0;
  printf("{\"connections\": %d, \"failed\": %d, \"closed_early\": %d, \"connect_s\": %.3f, \"connect_cpu_s\": %.3f, "
         "\"end\": \"%s\", \"text_messages\": %lu, \"received\": %lu, \"lost\": %ld, \"gaps\": %lu, \"repeats\": %lu, "
         "\"pings\": %lu, \"bytes_in\": %lu, \"sent\": %lu, \"acknowledged\": %lu, \"counted\": %lu, \"refused\": %lu, ",
         ready, failed, closed_early, connect_seconds, connect_cpu, why, text_messages, total_marked,
         (long)(expected - total_marked), gaps, repeats, pings, bytes_in, sent, acknowledged, counted, refused);
  print_ages("age_ms", &mark_ages);
  print_ages("first_ms", &first_ages);
  print_ages("ack_ms", &ack_ages);
  printf("\"first_to_last_s\": %.6f, \"mark_to_last_s\": %.6f, \"cpu_s\": %.3f, \"seconds\": %.3f}\n", between, from_mark,
         cpu_seconds() - connect_cpu, (now_ns(CLOCK_MONOTONIC) - ready_at) / 1e9);
  return ready != count || total_marked < expected || refused;
}

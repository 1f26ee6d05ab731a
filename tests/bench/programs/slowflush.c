// slowflush: a disk whose flush takes SLOWFLUSH_MICROSECONDS longer, for PostgreSQL by LD_PRELOAD.
//
// commit_delay with commit_siblings = 0 sleeps too, but before the flush and for the others to join in: that is what
// NOTIFY's lock keeps them from, and the figures of a slow disk would be better than they are.
//
// cc -O2 -shared -fPIC -o slowflush.so slowflush.c -ldl
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static void rest(void) {
  const char *text = getenv("SLOWFLUSH_MICROSECONDS");
  long microseconds = text ? atol(text) : 0;
  struct timespec time = {microseconds / 1000000, microseconds % 1000000 * 1000};
  while (microseconds && nanosleep(&time, &time)) continue;
}

int fdatasync(int fd) {
  static int (*original)(int);
  if (!original) original = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
  rest();
  return original(fd);
}

int fsync(int fd) {
  static int (*original)(int);
  if (!original) original = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
  rest();
  return original(fd);
}

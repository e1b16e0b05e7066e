/* Preloaded into a node: a wall clock that can be set, and syncs that take their time.
 *
 * ILL in the environment names a file of two numbers (64 bits each, this machine's order), which the kit rewrites while the
 * node runs: nanoseconds by which the wall clock is ahead, microseconds that each fsync or fdatasync takes longer. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t well[2];
static const volatile int64_t *ill = well;
static int (*real_clock)(clockid_t, struct timespec *), (*real_fsync)(int), (*real_fdatasync)(int);

__attribute__((constructor)) static void start(void) {
	real_clock = dlsym(RTLD_NEXT, "clock_gettime");
	real_fsync = dlsym(RTLD_NEXT, "fsync");
	real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
	const char *path = getenv("ILL");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return;
	void *map = mmap(NULL, sizeof well, PROT_READ, MAP_SHARED, fd, 0);
	if (map != MAP_FAILED)
		ill = map;
	close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *at) {
	if (!real_clock) /* another library's constructor came first */
		start();
	int failed = real_clock(clock, at);
	if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
		int64_t ns = at->tv_nsec + ill[0] % 1000000000;
		at->tv_sec += ill[0] / 1000000000 + (ns >= 1000000000) - (ns < 0);
		at->tv_nsec = ns + 1000000000 * ((ns < 0) - (ns >= 1000000000));
	}
	return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
	struct timespec now;
	(void)zone;
	if (at && !clock_gettime(CLOCK_REALTIME, &now)) {
		at->tv_sec = now.tv_sec;
		at->tv_usec = now.tv_nsec / 1000;
	}
	return 0;
}

time_t time(time_t *at) {
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	if (at)
		*at = now.tv_sec;
	return now.tv_sec;
}

static void take_time(void) {
	int64_t us = ill[1];
	struct timespec wait = {us / 1000000, us % 1000000 * 1000};
	if (us > 0)
		nanosleep(&wait, NULL);
}

int fsync(int fd) {
	take_time();
	return real_fsync(fd);
}

int fdatasync(int fd) {
	take_time();
	return real_fdatasync(fd);
}

/* What a machine does now and then, to the process that this is loaded into first
 * (LD_PRELOAD): as long as a file of that name is in the directory PGVEIL_FAULTS.
 *
 *   slow      bringing a file to disk takes 300 ms
 *   broken    bringing a file to disk fails
 *   readonly  nothing can be written to a file, as after a remount
 *   ahead     the clock is a year ahead
 *   behind    the clock is a year behind
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int on(const char *name)
{
    char path[512];
    const char *directory = getenv("PGVEIL_FAULTS");
    if (!directory)
        return 0;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return access(path, F_OK) == 0;
}

static int synced(const char *name, int fd)
{
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    if (on("slow"))
        usleep(300000);
    if (on("broken")) {
        errno = EIO;
        return -1;
    }
    return next(fd);
}

int fdatasync(int fd) { return synced("fdatasync", fd); }
int fsync(int fd) { return synced("fsync", fd); }

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at)
{
    ssize_t (*next)(int, const void *, size_t, off64_t) =
        (ssize_t(*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
    if (on("readonly")) {
        errno = EROFS;
        return -1;
    }
    return next(fd, bytes, count, at);
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    static int (*next)(clockid_t, struct timespec *);
    if (!next)
        next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int done = next(clock, time);
    if (done == 0 && clock == CLOCK_REALTIME) {
        if (on("ahead"))
            time->tv_sec += 365L * 24 * 60 * 60;
        if (on("behind"))
            time->tv_sec -= 365L * 24 * 60 * 60;
    }
    return done;
}

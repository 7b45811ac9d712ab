/* Preloaded under the cache writer: every I/O call on a file below the watched folder is a numbered point, at which the
   process can be killed (clean or torn), told of an error, or written to a log from which power cuts are simulated. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OFF, COUNT, KILL, TORN, SHORT, FAIL, FAIL_ON };

static char watched[PATH_MAX];
static int mode, target, error_number, reads_count, log_fd = -1, points, fsyncs;
static uint64_t dropped; /* bit n: the n-th fsync does nothing (first is bit 0) */
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void faults_arm(const char *folder, int new_mode, int at, int error, int with_reads, int log, uint64_t drop) {
    strncpy(watched, folder, sizeof watched - 1);
    mode = new_mode, target = at, error_number = error, reads_count = with_reads, log_fd = log, dropped = drop;
    points = fsyncs = 0;
}

int faults_points(void) { return points; }

static int below(const char *path) { return mode && path && !strncmp(path, watched, strlen(watched)); }

static int below_fd(int fd) {
    char link[64], path[PATH_MAX];
    if (!mode) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return below(path);
}

/* What to do at this point: 0 go on, TORN, SHORT, FAIL. */
static int point(int is_read) {
    int what = 0;
    if (is_read && !reads_count) return 0;
    pthread_mutex_lock(&guard);
    int now = points++;
    if (now == target && mode == KILL) kill(getpid(), SIGKILL);
    if (now == target && (mode == TORN || mode == SHORT || mode == FAIL)) what = mode;
    if (now >= target && mode == FAIL_ON) what = FAIL;
    pthread_mutex_unlock(&guard);
    return what;
}

static void die(void) { kill(getpid(), SIGKILL); pause(); }

struct record { char op; uint8_t a[7]; uint64_t inode, offset, size, name, other; };

static void note(char op, int fd, uint64_t offset, const void *data, uint64_t size, const char *name, const char *other) {
    struct record r = {.op = op, .offset = offset, .size = size};
    struct stat status;
    if (log_fd < 0) return;
    if (fd >= 0 && !fstat(fd, &status)) r.inode = status.st_ino;
    r.name = name ? strlen(name) : 0, r.other = other ? strlen(other) : 0;
    __typeof__(&write) out = REAL(write);
    out(log_fd, &r, sizeof r);
    if (r.name) out(log_fd, name, r.name);
    if (r.other) out(log_fd, other, r.other);
    if (data) out(log_fd, data, size);
}

void faults_mark(int n) { note('M', -1, n, 0, 0, 0, 0); }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list list; va_start(list, flags); \
        int permissions = flags & O_CREAT ? va_arg(list, int) : 0; \
        va_end(list); \
        if (!below(path)) return REAL(name)(path, flags, permissions); \
        int what = point(!(flags & (O_CREAT | O_TRUNC))); \
        if (what == FAIL) { errno = error_number; return -1; } \
        int before = access(path, F_OK), fd = REAL(name)(path, flags, permissions); \
        if (fd >= 0 && before && (flags & O_CREAT)) note('C', fd, 0, 0, 0, path, 0); \
        else if (fd >= 0 && (flags & O_TRUNC)) note('T', fd, 0, 0, 0, path, 0); \
        if (what == TORN) die(); \
        return fd; \
    }
OPEN(open)
OPEN(open64)

#define PWRITE(name, offset_type) \
    ssize_t name(int fd, const void *data, size_t size, offset_type offset) { \
        if (!below_fd(fd)) return REAL(name)(fd, data, size, offset); \
        int what = point(0); \
        if (what) size = size / 2; \
        if ((what != FAIL || error_number == EIO) && size) { \
            ssize_t wrote = REAL(name)(fd, data, size, offset); \
            if (wrote > 0) note('W', fd, offset, data, wrote, 0, 0); \
            if (what != TORN && what != FAIL) return wrote; \
        } else if (what == SHORT) return REAL(name)(fd, data, 1, offset); \
        if (what == TORN) die(); \
        errno = error_number; \
        return what == FAIL ? -1 : 0; \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t write(int fd, const void *data, size_t size) {
    if (!below_fd(fd)) return REAL(write)(fd, data, size);
    int what = point(0);
    if (what == FAIL) { errno = error_number; return -1; }
    if (what) size = (size + 1) / 2;
    off_t at = lseek(fd, 0, SEEK_CUR);
    ssize_t wrote = REAL(write)(fd, data, size);
    if (wrote > 0) note('W', fd, at, data, wrote, 0, 0);
    if (what == TORN) die();
    return wrote;
}

#define SYNC(name) \
    int name(int fd) { \
        if (!below_fd(fd)) return REAL(name)(fd); \
        int what = point(0); \
        if (what == FAIL) { errno = error_number; return -1; } \
        if (dropped >> fsyncs++ & 1) return 0; \
        int result = REAL(name)(fd); \
        note('S', fd, 0, 0, 0, 0, 0); \
        if (what == TORN) die(); \
        return result; \
    }
SYNC(fsync)
SYNC(fdatasync)

#define FTRUNCATE(name, offset_type) \
    int name(int fd, offset_type size) { \
        if (!below_fd(fd)) return REAL(name)(fd, size); \
        int what = point(0); \
        if (what == FAIL) { errno = error_number; return -1; } \
        int result = REAL(name)(fd, size); \
        note('L', fd, size, 0, 0, 0, 0); \
        if (what == TORN) die(); \
        return result; \
    }
FTRUNCATE(ftruncate, off_t)
FTRUNCATE(ftruncate64, off64_t)

#define RESERVE(name, offset_type) \
    int name(int fd, offset_type offset, offset_type size) { \
        if (!below_fd(fd)) return REAL(name)(fd, offset, size); \
        int what = point(0); \
        if (what == FAIL) { REAL(name)(fd, offset, size / 2); return error_number; } \
        if (what == TORN) size /= 2; \
        int result = REAL(name)(fd, offset, size); \
        note('L', fd, offset + size, 0, 0, 0, 0); \
        if (what == TORN) die(); \
        return result; \
    }
RESERVE(posix_fallocate, off_t)
RESERVE(posix_fallocate64, off64_t)

int rename(const char *from, const char *to) {
    if (!below(from) && !below(to)) return REAL(rename)(from, to);
    int what = point(0);
    if (what == FAIL) { errno = error_number; return -1; }
    int result = REAL(rename)(from, to);
    if (!result) note('R', -1, 0, 0, 0, from, to);
    if (what == TORN) die();
    return result;
}

int unlink(const char *path) {
    if (!below(path)) return REAL(unlink)(path);
    int what = point(0);
    if (what == FAIL) { errno = error_number; return -1; }
    int result = REAL(unlink)(path);
    if (!result) note('U', -1, 0, 0, 0, path, 0);
    if (what == TORN) die();
    return result;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (!below_fd(fd) || !count) return REAL(writev)(fd, parts, count);
    return write(fd, parts[0].iov_base, parts[0].iov_len); /* a short write, as it may be: the caller goes on */
}

#define NAMING(name, parameters, path, arguments) \
    int name parameters { \
        if (!(path)) return REAL(name) arguments; \
        int what = point(0); \
        if (what == FAIL) { errno = error_number; return -1; } \
        int result = REAL(name) arguments; \
        if (what == TORN) die(); \
        return result; \
    }
NAMING(mkdir, (const char *path, mode_t permissions), below(path), (path, permissions))
NAMING(rmdir, (const char *path), below(path), (path))
NAMING(unlinkat, (int fd, const char *path, int flags), below_fd(fd) || below(path), (fd, path, flags))

#define PREADV(name, offset_type) \
    ssize_t name(int fd, const struct iovec *parts, int count, offset_type offset) { \
        if (!below_fd(fd)) return REAL(name)(fd, parts, count, offset); \
        if (point(1) == FAIL) { errno = error_number; return -1; } \
        return REAL(name)(fd, parts, count, offset); \
    }
PREADV(preadv, off_t)
PREADV(preadv64, off64_t)

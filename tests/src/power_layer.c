// Loaded before libc: notes every change of files below POWER_ROOT in the journal POWER_JOURNAL, so that a test can rebuild
// what a disk would hold after a power loss. With POWER_NOSYNC an fsync is only said to have happened.
// A record: one text line, then the bytes of a write. An inode is named by its number.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int journal = -1;
static long seq;
static char root[4096];

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
    const char *r = getenv("POWER_ROOT"), *j = getenv("POWER_JOURNAL");
    if (!r || !j) return;
    snprintf(root, sizeof root, "%s", r);
    journal = REAL(open)(j, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

// The path of a file below the root, and its inode.
static int ours(int fd, char *path, size_t size, struct stat *st) {
    if (journal < 0 || fd < 0 || fd == journal) return 0;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, size - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    size_t l = strlen(root);
    return strncmp(path, root, l) == 0 && (path[l] == '/' || path[l] == 0) && fstat(fd, st) == 0;
}

static int below(const char *path) {
    size_t l = strlen(root);
    return journal >= 0 && strncmp(path, root, l) == 0 && path[l] == '/';
}

static void put(const void *head, size_t n, const void *data, size_t len) {
    struct iovec v[2] = {{(void *)head, n}, {(void *)data, len}};
    size_t want = n + len;
    ssize_t got = REAL(writev)(journal, v, len ? 2 : 1);
    if (got != (ssize_t)want) abort();
}

static void note(const void *data, size_t len, const char *format, ...) {
    char head[9000];
    int n = snprintf(head, sizeof head, "%ld ", ++seq);
    va_list args;
    va_start(args, format);
    n += vsnprintf(head + n, sizeof head - n, format, args);
    va_end(args);
    head[n++] = '\n';
    put(head, n, data, len);
}

static int opened(int fd, int existed, int flags) {
    int e = errno;
    char path[4096];
    struct stat st;
    if (fd >= 0 && (flags & (O_CREAT | O_TRUNC)) && ours(fd, path, sizeof path, &st) && S_ISREG(st.st_mode)) {
        if (!existed) note(0, 0, "create %lu %s", (unsigned long)st.st_ino, path);
        else if (flags & O_TRUNC) note(0, 0, "truncate %lu 0", (unsigned long)st.st_ino);
    }
    errno = e;
    return fd;
}

static int open_at(int dir, const char *path, int flags, mode_t mode) {
    if (journal < 0 || !(flags & (O_CREAT | O_TRUNC))) return REAL(openat)(dir, path, flags, mode);
    pthread_mutex_lock(&lock);
    struct stat st;
    int existed = fstatat(dir, path, &st, 0) == 0;
    int fd = opened(REAL(openat)(dir, path, flags, mode), existed, flags);
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { va_list a; va_start(a, flags); mode = va_arg(a, int); va_end(a); }

int open(const char *path, int flags, ...) { MODE(flags) return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return open_at(AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE(flags) return open_at(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE(flags) return open_at(dir, path, flags, mode); }

#define WRITTEN(call, offset) \
    char path[4096]; \
    struct stat st; \
    if (!ours(fd, path, sizeof path, &st) || !S_ISREG(st.st_mode)) return call; \
    pthread_mutex_lock(&lock); \
    off_t at = (offset); \
    ssize_t n = call; \
    int e = errno; \
    if (n > 0) note(data, n, "write %lu %ld %zd", (unsigned long)st.st_ino, (long)at, n); \
    pthread_mutex_unlock(&lock); \
    errno = e; \
    return n;

static off_t position(int fd, struct stat *st) {
    return fcntl(fd, F_GETFL) & O_APPEND ? (fstat(fd, st), st->st_size) : lseek(fd, 0, SEEK_CUR);
}

ssize_t write(int fd, const void *data, size_t len) { WRITTEN(REAL(write)(fd, data, len), position(fd, &st)) }
ssize_t pwrite(int fd, const void *data, size_t len, off_t o) { WRITTEN(REAL(pwrite)(fd, data, len, o), o) }
ssize_t pwrite64(int fd, const void *data, size_t len, off64_t o) { WRITTEN(REAL(pwrite64)(fd, data, len, o), o) }

#define CHANGED(call, format, ...) \
    char path[4096]; \
    struct stat st; \
    if (!ours(fd, path, sizeof path, &st)) return call; \
    pthread_mutex_lock(&lock); \
    int r = call; \
    int e = errno; \
    if (r == 0) note(0, 0, format, (unsigned long)st.st_ino, __VA_ARGS__); \
    pthread_mutex_unlock(&lock); \
    errno = e; \
    return r;

int ftruncate(int fd, off_t len) { CHANGED(REAL(ftruncate)(fd, len), "truncate %lu %ld", (long)len) }
int ftruncate64(int fd, off64_t len) { CHANGED(REAL(ftruncate64)(fd, len), "truncate %lu %ld", (long)len) }

// Durable is what was written before the call began; said only after it has returned.
static int synced(int fd, int (*real)(int)) {
    char path[4096];
    struct stat st;
    if (!ours(fd, path, sizeof path, &st)) return real(fd);
    if (getenv("POWER_NOSYNC")) return 0;
    pthread_mutex_lock(&lock);
    long upto = seq;
    pthread_mutex_unlock(&lock);
    int r = real(fd), e = errno;
    if (r == 0) {
        pthread_mutex_lock(&lock);
        note(0, 0, "sync %lu %ld %s", (unsigned long)st.st_ino, upto, path);
        pthread_mutex_unlock(&lock);
    }
    errno = e;
    return r;
}
int fsync(int fd) { return synced(fd, REAL(fsync)); }
int fdatasync(int fd) { return synced(fd, REAL(fdatasync)); }

#define NAMED(condition, call, ...) \
    if (!(condition)) return call; \
    pthread_mutex_lock(&lock); \
    int r = call; \
    int e = errno; \
    if (r == 0) note(0, 0, __VA_ARGS__); \
    pthread_mutex_unlock(&lock); \
    errno = e; \
    return r;

int rename(const char *from, const char *to) {
    NAMED(below(to), REAL(rename)(from, to), "rename %s\t%s", from, to)
}
int unlink(const char *path) { NAMED(below(path), REAL(unlink)(path), "unlink %s", path) }
int mkdir(const char *path, mode_t mode) { NAMED(below(path), REAL(mkdir)(path, mode), "mkdir %s", path) }

// Ways past the layer are not taken by what is tested; one that is would be noticed here.
int fallocate64(int fd, int mode, off64_t offset, off64_t len) { (void)fd; (void)mode; (void)offset; (void)len; errno = ENOSYS; return -1; }
int posix_fallocate64(int fd, off64_t offset, off64_t len) { (void)fd; (void)offset; (void)len; return ENOSYS; }

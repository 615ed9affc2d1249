/*
 * What the benchmark needs without an interpreter in the way.
 *
 *   native measure RESULT COMMAND ARGUMENT...   runs COMMAND; time and peak memory go to RESULT as JSON
 *   native rename FROM TO EVERY                 moves FROM's directories of files below TO, in directory order,
 *                                               and syncs both directories after EVERY files: the limit
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what, const char *name)
{
    fprintf(stderr, "native: %s %s: %s\n", what, name, strerror(errno));
    exit(1);
}

static double seconds_of(struct timeval t)
{
    return t.tv_sec + t.tv_usec / 1e6;
}

static int measure(const char *result, char **command)
{
    struct timespec from, to;
    struct rusage usage;
    int status;

    clock_gettime(CLOCK_MONOTONIC, &from);
    pid_t child = fork();
    if (child < 0)
        die("fork", command[0]);
    if (child == 0) {
        execvp(command[0], command);
        fprintf(stderr, "native: exec %s: %s\n", command[0], strerror(errno));
        _exit(127);
    }
    while (wait4(child, &status, 0, &usage) < 0)
        if (errno != EINTR)
            die("wait", command[0]);
    clock_gettime(CLOCK_MONOTONIC, &to);

    FILE *out = fopen(result, "w");
    if (!out)
        die("open", result);
    fprintf(out, "{\"seconds\":%.6f,\"userSeconds\":%.6f,\"systemSeconds\":%.6f,\"peakKiB\":%ld}\n",
            (to.tv_sec - from.tv_sec) + (to.tv_nsec - from.tv_nsec) / 1e9, seconds_of(usage.ru_utime),
            seconds_of(usage.ru_stime), usage.ru_maxrss);
    if (fclose(out) != 0)
        die("write", result);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int open_directory(int at, const char *name)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        die("open", name);
    return fd;
}

static void sync_directory(int fd, const char *name)
{
    if (fsync(fd) != 0)
        die("fsync", name);
}

/* A directory's names in its own order, all read before anything moves; the caller frees them. */
static char **names_in(int fd, size_t *count)
{
    size_t room = 1024;
    char **names = malloc(room * sizeof *names);
    DIR *directory = fdopendir(dup(fd));
    struct dirent *entry;

    if (!names || !directory)
        die("read", "directory");
    *count = 0;
    while (errno = 0, (entry = readdir(directory)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (*count == room && !(names = realloc(names, (room *= 2) * sizeof *names)))
            die("read", "directory");
        if (!(names[(*count)++] = strdup(entry->d_name)))
            die("read", "directory");
    }
    if (errno != 0)
        die("read", "directory");
    closedir(directory);
    return names;
}

static int rename_all(const char *from, const char *to, long every)
{
    int source = open_directory(AT_FDCWD, from);
    int target = open_directory(AT_FDCWD, to);
    size_t directories;
    long moved = 0;
    char **directory = names_in(source, &directories);

    for (size_t d = 0; d < directories; d++) {
        size_t files;
        int in = open_directory(source, directory[d]);
        if (mkdirat(target, directory[d], 0755) != 0)
            die("mkdir", directory[d]);
        sync_directory(target, to);
        int out = open_directory(target, directory[d]);
        char **file = names_in(in, &files);
        for (size_t f = 0; f < files; f++) {
            if (renameat(in, file[f], out, file[f]) != 0)
                die("rename", file[f]);
            moved += 1;
            if ((f + 1) % every == 0 || f + 1 == files) {
                sync_directory(out, directory[d]);
                sync_directory(in, directory[d]);
            }
            free(file[f]);
        }
        free(file);
        free(directory[d]);
        close(in);
        close(out);
    }
    free(directory);
    printf("%ld\n", moved);
    return 0;
}

int main(int count, char **arguments)
{
    if (count >= 4 && strcmp(arguments[1], "measure") == 0)
        return measure(arguments[2], arguments + 3);
    if (count == 5 && strcmp(arguments[1], "rename") == 0 && atol(arguments[4]) > 0)
        return rename_all(arguments[2], arguments[3], atol(arguments[4]));
    fprintf(stderr, "usage: native measure RESULT COMMAND ARGUMENT... | native rename FROM TO EVERY\n");
    return 2;
}

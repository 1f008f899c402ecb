/* What the system says of this process's threads. For programs that load the library by themselves, too: it needs nothing of it. */
#ifndef OWN_THREADS_H
#define OWN_THREADS_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREAD_NAME_BYTES 64

/* How many there are. One figure, read at once: a listing of /proc/self/task ends early if a thread dies under it. The system may count a thread for a
 * moment after it was joined. */
static inline int own_threads(void)
{
    FILE *status = fopen("/proc/self/status", "r");
    char line[256];
    int count = 0;

    while (status && count == 0 && fgets(line, sizeof line, status))
        if (sscanf(line, "Threads: %d", &count) != 1)
            count = 0;
    if (count == 0) {
        fputs("own_threads.h: /proc/self/status does not tell the number of threads\n", stderr);
        exit(1);
    }
    fclose(status);
    return count;
}

/* For others to look after the calling thread. */
static inline void name_of_this_thread(char name[THREAD_NAME_BYTES])
{
    memset(name, 0, THREAD_NAME_BYTES);
    if (readlink("/proc/thread-self", name, THREAD_NAME_BYTES - 1) <= 0) {
        fputs("own_threads.h: /proc/thread-self does not tell the name of a thread\n", stderr);
        exit(1);
    }
}

/* Asleep, as in a wait; or ended. */
static inline bool is_asleep(const char name[THREAD_NAME_BYTES])
{
    char path[THREAD_NAME_BYTES + 16], line[512] = "";
    const char *state;
    FILE *file;

    snprintf(path, sizeof path, "/proc/%s/stat", name);
    file = fopen(path, "r");
    if (!file)
        return true;
    /* What stands before its state is a name in parentheses, which may have some itself. */
    state = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
    fclose(file);
    return !state || state[2] == 'S';
}

#endif /* OWN_THREADS_H */

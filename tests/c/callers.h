/* Calls that other threads are in while something ends or goes. */
#ifndef CALLERS_H
#define CALLERS_H

#include "harness.h"
#include "own_threads.h"

#include <sched.h>

#define CALLERS 2

struct callers;

/* One call in a thread of its own, and what it came back with. */
struct caller {
    pthread_t thread;
    struct callers *all;
    pcclResult_t (*call)(struct caller *);
    pcclComm_t *comm;
    pcclMasterInstance_t *master;
    pcclAsyncReduceOp_t handle;
    /* What the system calls the thread, once it is about to make its call. */
    char name[THREAD_NAME_BYTES];
    pcclResult_t result;
    char words[512];
    /* 1: it came back first. */
    int place;
};

struct callers {
    struct caller each[CALLERS];
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int about_to_call;
    int returned;
};

static inline void *run_caller(void *argument)
{
    struct caller *caller = argument;
    struct callers *all = caller->all;

    name_of_this_thread(caller->name);
    pthread_mutex_lock(&all->lock);
    all->about_to_call++;
    pthread_cond_broadcast(&all->changed);
    pthread_mutex_unlock(&all->lock);
    caller->result = caller->call(caller);
    if (caller->result != pcclSuccess)
        OK(pcclGetLastError(caller->words, sizeof caller->words));
    pthread_mutex_lock(&all->lock);
    caller->place = ++all->returned;
    pthread_cond_broadcast(&all->changed);
    pthread_mutex_unlock(&all->lock);
    return NULL;
}

static inline void start_callers(struct callers *callers, int count, struct caller what)
{
    int i;

    memset(callers, 0, sizeof *callers);
    CHECK(pthread_mutex_init(&callers->lock, NULL) == 0 && pthread_cond_init(&callers->changed, NULL) == 0);
    for (i = 0; i < count; i++) {
        callers->each[i] = what;
        callers->each[i].all = callers;
        CHECK(pthread_create(&callers->each[i].thread, NULL, run_caller, &callers->each[i]) == 0);
    }
}

static inline void join_callers(struct callers *callers, int count)
{
    int i;

    for (i = 0; i < count; i++)
        CHECK(pthread_join(callers->each[i].thread, NULL) == 0);
    CHECK(pthread_mutex_destroy(&callers->lock) == 0 && pthread_cond_destroy(&callers->changed) == 0);
}

/* Two threads make the same call, of which a communicator has one at a time: the refusal of the one tells that the other is in it. */
static inline void call_twice(struct callers *callers, pcclComm_t *comm, pcclResult_t (*call)(struct caller *))
{
    struct caller what;

    memset(&what, 0, sizeof what);
    what.comm = comm;
    what.call = call;
    start_callers(callers, CALLERS, what);
    pthread_mutex_lock(&callers->lock);
    while (callers->returned == 0)
        pthread_cond_wait(&callers->changed, &callers->lock);
    CHECK(callers->returned == 1);
    pthread_mutex_unlock(&callers->lock);
}

/* Waits for the one that was in it, whose result it gives. The other was refused for that reason, with this code. */
static inline const struct caller *who_was_in_it(struct callers *callers, pcclResult_t refusal)
{
    const struct caller *refused;

    join_callers(callers, CALLERS);
    refused = &callers->each[callers->each[0].place == 1 ? 0 : 1];
    CHECK(refused->result == refusal && strstr(refused->words, "already"));
    return &callers->each[refused == &callers->each[0] ? 1 : 0];
}

/* Starts one call, and returns when its thread is most likely asleep in it: whether it was there shows what it came back with. */
static inline void call_once(struct callers *callers, struct caller what)
{
    int looks = 0;

    start_callers(callers, 1, what);
    pthread_mutex_lock(&callers->lock);
    while (callers->about_to_call == 0)
        pthread_cond_wait(&callers->changed, &callers->lock);
    pthread_mutex_unlock(&callers->lock);
    while (looks < 100) {
        looks = is_asleep(callers->each[0].name) ? looks + 1 : 0;
        sched_yield();
    }
}

#endif /* CALLERS_H */

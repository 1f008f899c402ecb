/* A master given by name, and a system that does not look it up: the calls end in time all the same, and so does the look-up's thread
 * when the system answers at last. */
#include "harness.h"

#include <dirent.h>
#include <netdb.h>
#include <sched.h>
#include <sys/socket.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int asked, answered, ended;

/* In the place of the system's. */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    (void)name, (void)service, (void)hints, (void)found;
    pthread_mutex_lock(&lock);
    asked++;
    pthread_cond_broadcast(&changed);
    while (!answered)
        pthread_cond_wait(&changed, &lock);
    ended++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return EAI_NONAME;
}

static void wait_until_asked(int times)
{
    pthread_mutex_lock(&lock);
    while (asked < times)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static int threads(void)
{
    DIR *directory = opendir("/proc/self/task");
    int count = 0;

    CHECK(directory != NULL);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

static pcclComm_t *of_a_name(const char *timeout_ms)
{
    pcclCommCreateParams_t params = params_of(loopback(1), 0);
    pcclConfig_t *config = NULL;
    pcclComm_t *comm = NULL;

    OK(pcclConfigCreate(&config));
    OK(pcclConfigSet(config, "master", "nobody.invalid:48148"));
    OK(pcclConfigSet(config, "connect_timeout_ms", timeout_ms));
    OK(pcclCreateCommunicatorWithConfig(&params, config, &comm));
    OK(pcclConfigDestroy(config));
    return comm;
}

static void *connects(void *comm)
{
    FAILS(pcclConnect(comm), pcclInvalidArgument, "was destroyed");
    return NULL;
}

int main(void)
{
    pcclComm_t *patient, *impatient;
    pthread_t thread;
    int before;

    hang_is_failure(60);
    OK(pcclInit());
    before = threads();
    impatient = of_a_name("50");
    FAILS(pcclConnect(impatient), pcclMasterConnectionFailed, "took too long");
    OK(pcclDestroyCommunicator(impatient));

    patient = of_a_name("3600000");
    CHECK(pthread_create(&thread, NULL, connects, patient) == 0);
    wait_until_asked(2);
    OK(pcclDestroyCommunicator(patient));
    CHECK(pthread_join(thread, NULL) == 0);
    /* Both look-ups are under way: nothing can end them but an answer. */
    CHECK(ended == 0 && threads() > before);

    pthread_mutex_lock(&lock);
    answered = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    /* The system may list a thread for a moment after its end. */
    while (threads() > before)
        sched_yield();
    CHECK(ended == 2);
    puts("lookups.c: no call waits for them");
    return 0;
}

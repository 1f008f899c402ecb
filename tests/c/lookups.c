/* A master given by name, and a system that does not look it up: the calls end in time all the same, and so does the look-up's thread
 * when the system answers at last. */
#include "harness.h"
#include "own_threads.h"

#include <netdb.h>
#include <sched.h>
#include <sys/socket.h>

#define PATIENT "patient.invalid"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int asked, asked_by_the_patient, answered, ended;

/* In the place of the system's. */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    (void)service, (void)hints, (void)found;
    pthread_mutex_lock(&lock);
    asked++;
    asked_by_the_patient += strcmp(name, PATIENT) == 0;
    pthread_cond_broadcast(&changed);
    while (!answered)
        pthread_cond_wait(&changed, &lock);
    ended++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return EAI_NONAME;
}

static pcclComm_t *of_a_name(const char *name, const char *timeout_ms)
{
    pcclCommCreateParams_t params = params_of(loopback(1), 0);
    pcclConfig_t *config = NULL;
    pcclComm_t *comm = NULL;
    char address[64];

    snprintf(address, sizeof address, "%s:48148", name);
    OK(pcclConfigCreate(&config));
    OK(pcclConfigSet(config, "master", address));
    OK(pcclConfigSet(config, "connect_timeout_ms", timeout_ms));
    OK(pcclCreateCommunicatorWithConfig(&params, config, &comm));
    OK(pcclConfigDestroy(config));
    return comm;
}

static void *connects(void *comm)
{
    FAILS(pcclConnect(comm), pcclInvalidArgument, "destroyed while this call was under way");
    return NULL;
}

int main(void)
{
    pcclComm_t *patient, *impatient;
    pthread_t thread;
    int before;

    hang_is_failure(60);
    OK(pcclInit());
    before = own_threads();
    impatient = of_a_name("impatient.invalid", "50");
    /* The look-up and the whole call have the same time: either may be the one to say that it is over. */
    FAILS(pcclConnect(impatient), pcclMasterConnectionFailed, "master connection failed");
    OK(pcclDestroyCommunicator(impatient));

    patient = of_a_name(PATIENT, "3600000");
    CHECK(pthread_create(&thread, NULL, connects, patient) == 0);
    pthread_mutex_lock(&lock);
    while (!asked_by_the_patient)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    OK(pcclDestroyCommunicator(patient));
    CHECK(pthread_join(thread, NULL) == 0);
    /* The look-ups are under way, and nothing can end them but an answer. */
    CHECK(own_threads() > before);

    pthread_mutex_lock(&lock);
    CHECK(ended == 0);
    answered = 1;
    pthread_cond_broadcast(&changed);
    /* That of the impatient one, too, unless its thread had no turn before its end. */
    while (ended < asked)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    while (own_threads() > before)
        sched_yield();
    puts("lookups.c: no call waits for them");
    return 0;
}

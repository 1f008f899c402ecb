/*
 * pccl: fault-tolerant collective communication over the internet. Made by cbindgen from pccl-ffi/src: edit there.
 *
 * A run is a master and its peers, which come and go. Each peer is a communicator: created, connected, destroyed. Calls are of
 * three kinds, and each says who has to make it:
 * - local: this peer alone, whenever it likes; does not wait for anybody;
 * - phase: every accepted peer of the run (or of the group) makes it, in the same order; it blocks until all have. A peer that
 *   dies while others wait is taken out of the count at once, so nobody waits for the dead;
 * - operation: every peer of the group makes it with the same tag and shape, in any order among the tags in flight.
 * Calls that can never meet, as when half of the peers reduce and half update, end with pcclInvalidUsage at all of them, once each
 * of them waits without a limit: one that polls or waits for a time could still do something else.
 *
 * Threads: every function may be called from any thread, and several operations from several threads at once. A communicator makes
 * one phase call at a time. pcclGetLastError tells of the calling thread's calls. A program that loads the library by itself gets it
 * unloaded only when the threads that called it have ended: until then it stays, and a second load finds it as it is.
 *
 * Memory: what is passed in is read or written until the call returns, where nothing else is said, and is the caller's. Handles that
 * a create function gave out are the caller's until the destroy function of the same name, which takes them once. They point to
 * nothing that could be read. One that was destroyed, is of another kind or was never given out is pcclInvalidArgument, in
 * whatever thread, and none is given out twice while the library is loaded. Outputs are written on success only. NULL is refused
 * with pcclInvalidArgument, where it is not said that a pointer may be NULL.
 *
 * Codes that any function can return beside those it names: pcclInvalidArgument (NULL, a number out of range), pcclInternalError
 * (a bug of the library; no panic and no exception crosses the border), those that make, take or stand for a communicator
 * pcclNotInitialized (before pcclInit), and all that take a handle, but for its destruction, pcclInvalidUsage in a forked child: its
 * handles fail (whatever number came with the fork, of whatever kind and also if the parent had destroyed it), may be destroyed once
 * each, and leave the parent's alone. Phases and operations that
 * block: pcclMasterConnectionFailed, if the master is lost for good (a restarted one is found again) or has put this peer out of the
 * run; pcclInvalidUsage before pcclConnect.
 *
 * The environment can set what no field is for, and has the last word where there is one: docs/SETTINGS.md. The pages that are
 * named docs/ here are installed in share/doc/pccl.
 */


#ifndef PCCL_H
#define PCCL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "ccoip_inet.h"

#if defined(_WIN32) && !defined(PCCL_STATIC)
#define PCCL_EXPORT __declspec(dllimport)
#elif defined(__GNUC__)
#define PCCL_EXPORT __attribute__((visibility("default")))
#else
#define PCCL_EXPORT
#endif

/** For programs that mark pointers that may be NULL. */
#define PCCL_NULLABLE

/** For programs that name it; no function takes one. */
typedef struct pcclRankInfo_t pcclRankInfo_t;


/**
 * What became of a call. pcclGetErrorString has each in words, pcclGetLastError the reason of the last failure.
 */
typedef enum pcclResult_t {
    pcclSuccess = 0,
    /**
     * pcclInit was not called.
     */
    pcclNotInitialized = 1,
    /**
     * A bug of the library.
     */
    pcclInternalError = 2,
    /**
     * NULL, a number out of range, memory that overlaps in part, a tag that is in flight, peers that disagree.
     */
    pcclInvalidArgument = 3,
    /**
     * The right arguments at the wrong moment: not connected, connected twice, calls that can never meet, a forked child.
     */
    pcclInvalidUsage = 4,
    /**
     * Alone in the group.
     */
    pcclTooFewPeers = 5,
    /**
     * The master cannot be reached, was lost for good, refused this peer, or put it out of the run.
     */
    pcclMasterConnectionFailed = 6,
    /**
     * This peer's data port cannot be had. Pairs without a connection are planned around, and are no error.
     */
    pcclRankConnectionFailed = 7,
    /**
     * Aborted because membership changed; the input is what it was: call again.
     */
    pcclRankConnectionLost = 8,
    /**
     * Nobody offers a shared state.
     */
    pcclNoSharedStateAvailable = 9,
    /**
     * A phase call while asynchronous operations are in flight: await them first.
     */
    pcclPendingAsyncOps = 10,
    /**
     * Call again. Not returned by this version: an update that a peer dies under is done again by the library.
     */
    pcclUpdateTopologyFailed = 11,
    /**
     * The run goes on in the order it has: go on, or call again.
     */
    pcclTopologyOptimizationFailed = 12,
    /**
     * Not done in time; it goes on. Codes from 100 on are this library's own.
     */
    pcclTimeout = 100,
} pcclResult_t;

/**
 * Types of elements.
 */
typedef enum pcclDataType_t {
    pcclUint8 = 0,
    pcclInt8 = 1,
    pcclInt16 = 2,
    pcclUint16 = 3,
    pcclUint32 = 4,
    pcclInt32 = 5,
    pcclUint64 = 6,
    pcclInt64 = 7,
    /**
     * IEEE 754 binary16.
     */
    pcclFloat16 = 8,
    pcclBFloat16 = 9,
    pcclFloat = 10,
    pcclDouble = 11,
} pcclDataType_t;

/**
 * Where memory is.
 */
typedef enum pcclDeviceType_t {
    pcclDeviceCpu = 0,
    /**
     * Refused with pcclInvalidArgument by builds without CUDA: see pcclGetBuildInfo.
     */
    pcclDeviceCuda = 1,
} pcclDeviceType_t;

/**
 * How elements are combined.
 */
typedef enum pcclRedOp_t {
    pcclSum = 0,
    /**
     * The sum by the number of peers that took part; of integers towards zero.
     */
    pcclAvg = 1,
    pcclProd = 2,
    pcclMax = 3,
    pcclMin = 4,
} pcclRedOp_t;

/**
 * Numbers of a run, as of the last call that returned: the same at all peers of a group after the same call.
 */
typedef enum pcclAttribute_t {
    /**
     * Accepted peers of every group.
     */
    PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE = 1,
    /**
     * Accepted peers of this communicator's group.
     */
    PCCL_ATTRIBUTE_PEER_GROUP_WORLD_SIZE = 2,
    /**
     * Groups with accepted peers.
     */
    PCCL_ATTRIBUTE_NUM_DISTINCT_PEER_GROUPS = 3,
    /**
     * Accepted peers of the group that has most.
     */
    PCCL_ATTRIBUTE_LARGEST_PEER_GROUP_WORLD_SIZE = 4,
} pcclAttribute_t;

/**
 * How the elements are distributed. Checked for range, and without effect.
 */
typedef enum pcclDistributionHint_t {
    pcclDistributionNone = 0,
    pcclDistributionNormal = 1,
    pcclDistributionUniform = 2,
} pcclDistributionHint_t;

/**
 * What a peer does in pcclSynchronizeSharedState.
 */
typedef enum pcclSharedStateSyncStrategy_t {
    /**
     * The content most peers hold wins and replaces every other. If one peer says so, all must.
     */
    PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR = 0,
    /**
     * Receives what others hold; has no vote.
     */
    PCCL_SHARED_STATE_SYNC_STRATEGY_RECEIVE_ONLY = 1,
    /**
     * Its content must win; it never receives.
     */
    PCCL_SHARED_STATE_SYNC_STRATEGY_SEND_ONLY = 2,
} pcclSharedStateSyncStrategy_t;

/**
 * What travels instead of the elements, of pcclFloat16, pcclBFloat16, pcclFloat and pcclDouble (docs/QUANTIZATION.md), in
 * every operation but pcclProd, where nothing else is said. The others, and integers, are refused with pcclInvalidArgument.
 * From 3 on they are this library's own, and the quantized data type is ignored.
 */
typedef enum pcclQuantizationAlgorithm_t {
    pcclQuantNone = 0,
    /**
     * To pcclUint8, pcclInt8, pcclUint16 or pcclInt16.
     */
    pcclQuantMinMax = 1,
    /**
     * The same, with a code that stands for 0.
     */
    pcclQuantZeroPointScale = 2,
    pcclQuantBits4 = 3,
    pcclQuantFloat8E4M3 = 4,
    pcclQuantFloat8E5M2 = 5,
    /**
     * pcclFloat as f16, products too.
     */
    pcclQuantFloat16 = 6,
    /**
     * pcclFloat as bf16, products too.
     */
    pcclQuantBFloat16 = 7,
} pcclQuantizationAlgorithm_t;

/**
 * A peer of a run.
 */
typedef struct pcclComm_t pcclComm_t;

/**
 * Settings by key, for what the fixed structs have no field for.
 */
typedef struct pcclConfig_t pcclConfig_t;

/**
 * The one that all peers of a run connect to. It decides, and carries no tensor data.
 */
typedef struct pcclMasterInstanceState_t pcclMasterInstanceState_t;

/**
 * What a build can do.
 */
typedef struct pcclBuildInfo_t {
    /**
     * Whether tensors may be in memory of CUDA devices.
     */
    bool has_cuda_support;
} pcclBuildInfo_t;

/**
 * Counts since the communicator was made, which only grow. Later versions may add fields at the end.
 */
typedef struct pcclStats_t {
    /**
     * Set it to sizeof(pcclStats_t) before the call: no more is written, and what the library does not know is 0.
     */
    size_t struct_size;
    uint64_t ops_reduced;
    /**
     * Ended with pcclRankConnectionLost.
     */
    uint64_t ops_aborted;
    /**
     * Ended with any other error.
     */
    uint64_t ops_failed;
    /**
     * Synchronizations of shared state that succeeded.
     */
    uint64_t syncs;
    /**
     * Payload of the operations that were reduced, and of the synchronizations.
     */
    uint64_t tx_bytes;
    uint64_t rx_bytes;
    /**
     * Epochs this peer has been a member of.
     */
    uint64_t epochs;
    /**
     * Data connections that came up.
     */
    uint64_t links_up;
    /**
     * Data connections that were closed.
     */
    uint64_t links_closed;
    /**
     * All that data connections have carried, framing included.
     */
    uint64_t wire_tx_bytes;
    uint64_t wire_rx_bytes;
} pcclStats_t;

/**
 * Programs know the struct by one name and its tag by the other.
 */
typedef struct pcclMasterInstanceState_t pcclMasterInstance_t;

/**
 * Where a communicator goes. Later options are settings by key, so this never changes: pcclConfig_t.
 */
typedef struct pcclCommCreateParams_t {
    /**
     * Of the master.
     */
    ccoip_socket_address_t master_address;
    /**
     * Operations and shared state span a group, membership spans the run.
     */
    uint32_t peer_group;
    /**
     * Connections of each pair; 0: the default.
     */
    uint32_t p2p_connection_pool_size;
} pcclCommCreateParams_t;

/**
 * The elements of an all-reduce.
 */
typedef struct pcclReduceOperandDescriptor_t {
    pcclDataType_t datatype;
    pcclDistributionHint_t distribution_hint;
} pcclReduceOperandDescriptor_t;

/**
 * What travels instead of the elements.
 */
typedef struct pcclQuantizationOptions_t {
    /**
     * Ignored if the algorithm is pcclQuantNone.
     */
    pcclDataType_t quantized_datatype;
    pcclQuantizationAlgorithm_t algorithm;
} pcclQuantizationOptions_t;

/**
 * An all-reduce: the same at all peers of the group.
 */
typedef struct pcclReduceDescriptor_t {
    /**
     * Elements, at least one.
     */
    size_t count;
    pcclRedOp_t op;
    /**
     * Names the operation among those in flight.
     */
    uint64_t tag;
    struct pcclReduceOperandDescriptor_t src_descriptor;
    struct pcclQuantizationOptions_t quantization_options;
} pcclReduceDescriptor_t;

/**
 * What an all-reduce, or a list of them, did.
 */
typedef struct pcclReduceInfo_t {
    /**
     * Peers that took part.
     */
    uint32_t local_world_size;
    /**
     * Payload that this peer sent.
     */
    uint64_t tx_bytes;
    /**
     * Payload that this peer received.
     */
    uint64_t rx_bytes;
} pcclReduceInfo_t;

/**
 * An all-reduce in flight; awaited exactly once, before its communicator is destroyed.
 *
 * A communicator and a tag are all it says. So a handle that was awaited already looks like that of a later operation of the
 * same tag: who awaits the old one again awaits the new one, and uses it up.
 */
typedef struct pcclAsyncReduceOp_t {
    struct pcclComm_t *comm;
    uint64_t tag;
} pcclAsyncReduceOp_t;

/**
 * One of several all-reduces. `sendbuf` is only read, unless `recvbuf` is the same.
 */
typedef struct pcclReduceSingleDescriptor_t {
    void *sendbuf;
    void *recvbuf;
    struct pcclReduceDescriptor_t descriptor;
} pcclReduceSingleDescriptor_t;

/**
 * Programs know the struct by one name and its tag by the other.
 */
typedef struct pcclReduceSingleDescriptor_t pcclReduceOpDescriptor_t;

/**
 * A tensor of a shared state.
 */
typedef struct pcclTensorInfo_t {
    /**
     * UTF-8; names differ within a state.
     */
    const char *name;
    /**
     * Contiguous; read, and received into in place. May be NULL if `count` is 0.
     */
    void *data;
    /**
     * Elements; may be 0.
     */
    size_t count;
    pcclDataType_t datatype;
    pcclDeviceType_t device_type;
    /**
     * Its content may differ between peers: it has no vote, and goes to peers with an outdated revision only.
     */
    bool allow_content_inequality;
} pcclTensorInfo_t;

/**
 * Tensors that all peers of a group are to hold alike.
 */
typedef struct pcclSharedState_t {
    /**
     * Goes up by one between two synchronizations; a newcomer may have any lower one. Written back.
     */
    uint64_t revision;
    /**
     * Of `infos`.
     */
    size_t count;
    struct pcclTensorInfo_t *infos;
} pcclSharedState_t;

/**
 * Content of tensors that travelled, in whole blocks; both 0 if all held the same.
 */
typedef struct pcclSharedStateSyncInfo_t {
    uint64_t tx_bytes;
    uint64_t rx_bytes;
} pcclSharedStateSyncInfo_t;

/**
 * A peer, for programs that name the type; no function takes one.
 */
typedef struct pcclRankUuid_t {
    uint8_t data[16];
} pcclRankUuid_t;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * What this build can do. Works before pcclInit. Local, does not block.
 */
PCCL_EXPORT pcclResult_t pcclGetBuildInfo(struct pcclBuildInfo_t *build_info_out);

/**
 * The version of the library, which may be newer than the header. Works before pcclInit. Local, does not block.
 */
PCCL_EXPORT pcclResult_t pcclGetVersion(int *major, int *minor, int *patch);

/**
 * What the communicator has done so far. Set `stats->struct_size` to sizeof(pcclStats_t) before.
 *
 * Local; waits for the communicator's thread only, which may be in the middle of something: not for each of many
 * small operations.
 *
 * pcclInvalidArgument: a `struct_size` that cannot be.
 */
PCCL_EXPORT pcclResult_t pcclGetStats(const struct pcclComm_t *comm, struct pcclStats_t *stats);

/**
 * A code in words, also one that is none. Never NULL; lives as long as the library is loaded, and is not freed.
 *
 * Local, does not block; works before pcclInit.
 */
PCCL_EXPORT const char *pcclGetErrorString(pcclResult_t result);

/**
 * The last failure in the calling thread in words: the peer, the operation, the reason. Empty if nothing failed
 * yet; a success leaves it as it is.
 *
 * Local, does not block; works before pcclInit. At most `len` bytes of `buffer` are written, the closing zero
 * included; what does not fit is cut off at the end of a character. pcclInvalidArgument: `len` is 0 or `buffer` NULL;
 * then the last failure stays what it was.
 */
PCCL_EXPORT pcclResult_t pcclGetLastError(char *buffer, size_t len);

/**
 * Settings, without any set. The caller's until pcclConfigDestroy. Local, does not block.
 */
PCCL_EXPORT pcclResult_t pcclConfigCreate(struct pcclConfig_t **config_out);

/**
 * One setting of communicators or of masters by its key: docs/SETTINGS.md has them all. The environment,
 * PCCL_<KEY>, overrides it when the communicator or master is made.
 *
 * `log_level` is for both, and of the whole process from then on: off, error, warn, info, debug or trace.
 *
 * Local, does not block. Both strings are UTF-8, and copied.
 *
 * pcclInvalidArgument: an unknown key or an impossible value; the last error says what is possible.
 */
PCCL_EXPORT pcclResult_t pcclConfigSet(struct pcclConfig_t *config, const char *key, const char *value);

/**
 * Frees settings. Communicators and masters made with them keep what they were given. Local, does not block.
 *
 * pcclInvalidArgument: destroyed already.
 */
PCCL_EXPORT pcclResult_t pcclConfigDestroy(struct pcclConfig_t *config);

/**
 * Makes a master that will listen there; port 0: any free one. No socket is opened.
 *
 * Local, does not block; works before pcclInit, as do all calls on masters. `*master_handle_out` is the caller's
 * until pcclDestroyMaster.
 *
 * pcclInvalidArgument: an unknown address protocol, an impossible setting in the environment. pcclInvalidUsage:
 * PCCL_RUN_KEY is set, and there is no encryption.
 */
PCCL_EXPORT
pcclResult_t pcclCreateMaster(ccoip_socket_address_t listen_address,
                              pcclMasterInstance_t **master_handle_out);

/**
 * As pcclCreateMaster, with settings of masters; those of the environment win over them. `config` is copied.
 *
 * Local, does not block. Codes of pcclCreateMaster; pcclInvalidArgument also for a setting that only communicators have.
 */
PCCL_EXPORT
pcclResult_t pcclCreateMasterWithConfig(ccoip_socket_address_t listen_address,
                                        const struct pcclConfig_t *config,
                                        pcclMasterInstance_t **master_handle_out);

/**
 * Listens, and serves in the background until pcclInterruptMaster or pcclDestroyMaster. Returns once the port is
 * open.
 *
 * Local. pcclInvalidUsage: the port cannot be had. pcclInvalidArgument: it was run before.
 */
PCCL_EXPORT pcclResult_t pcclRunMaster(pcclMasterInstance_t *master_instance);

/**
 * Where a running master listens: the port it found, if it was created with port 0.
 *
 * Local, does not block. pcclInvalidUsage: not run yet.
 */
PCCL_EXPORT
pcclResult_t pcclMasterGetAddress(const pcclMasterInstance_t *master_instance,
                                  ccoip_socket_address_t *address_out);

/**
 * Tells a running master to stop; pcclMasterAwaitTermination returns once it has. Its peers look for a new master
 * at the same address.
 *
 * Local, does not block; may be called again. pcclInvalidUsage: not run yet.
 */
PCCL_EXPORT pcclResult_t pcclInterruptMaster(pcclMasterInstance_t *master_instance);

/**
 * Waits until the master has stopped: after pcclInterruptMaster, from whatever thread.
 *
 * Local; blocks. From several threads at once all of them return. pcclInvalidUsage: not run yet.
 */
PCCL_EXPORT pcclResult_t pcclMasterAwaitTermination(pcclMasterInstance_t *master_instance);

/**
 * Stops the master if it runs, and frees it. Threads that wait in pcclMasterAwaitTermination have its end.
 *
 * Local; waits for its own thread only. pcclInvalidArgument: destroyed already.
 */
PCCL_EXPORT pcclResult_t pcclDestroyMaster(pcclMasterInstance_t *master_instance);

/**
 * Makes the library ready. Once per process, before any call on a communicator; again, or from two threads at
 * once, it does nothing.
 *
 * From here on (or from the first pcclCreateMaster on) the library's log goes to standard error, a line of time, level,
 * process and words for each thing that happens; the environment's PCCL_LOG_LEVEL says how much: off, error, warn (the
 * default), info, debug or trace. See pcclConfigSet for a level that the program sets.
 *
 * Local, does not block. Starts no thread and opens no socket.
 */
PCCL_EXPORT pcclResult_t pcclInit(void);

/**
 * Makes a communicator, with the settings of the environment. No connection is made.
 *
 * Local, does not block. `params` is copied. `*comm_out` is the caller's until pcclDestroyCommunicator.
 *
 * A pool of more connections than the library makes, 64, gets that many. pcclInvalidArgument: an unknown address
 * protocol, an impossible setting in the environment. pcclInvalidUsage: PCCL_RUN_KEY is set, and there is no encryption.
 */
PCCL_EXPORT
pcclResult_t pcclCreateCommunicator(const struct pcclCommCreateParams_t *params,
                                    struct pcclComm_t **comm_out);

/**
 * As pcclCreateCommunicator, with settings beyond the fields of the parameters; those of `config` win, those of
 * the environment win over both.
 *
 * Local, does not block. `config` is copied. Codes of pcclCreateCommunicator; pcclInvalidArgument also for a setting that
 * only masters have.
 */
PCCL_EXPORT
pcclResult_t pcclCreateCommunicatorWithConfig(const struct pcclCommCreateParams_t *params,
                                              const struct pcclConfig_t *config,
                                              struct pcclComm_t **comm_out);

/**
 * Leaves the run, ends the threads and closes the sockets of the communicator, frees it.
 *
 * Local; waits for its own thread only. Operations in flight are aborted first; buffers of those that were started by
 * pcclAllReduceAsync and its kin are the caller's again when this returns. What other threads wait for with it ends with
 * pcclInvalidArgument (or has ended well), and so do later calls, also those on handles of its operations: the memory of a call that
 * another thread is in is the caller's again when that call has returned, which may be after this. The other peers go on at once
 * without this one.
 *
 * Of a master given by name: a look-up that is under way and that the system does not end is waited for for a second. Then
 * its thread is left alone with it, and ends by itself when the system answers: a program that unloads the library has to
 * wait that long.
 *
 * pcclInvalidArgument: destroyed already.
 */
PCCL_EXPORT
pcclResult_t pcclDestroyCommunicator(struct pcclComm_t *comm);

/**
 * One number of the run, as of the last call that returned: peers of a group that ask after the same call get the
 * same answer, so a program may branch on it.
 *
 * Local, does not block. pcclInvalidUsage: before pcclConnect.
 */
PCCL_EXPORT pcclResult_t pcclGetAttribute(const struct pcclComm_t *comm, pcclAttribute_t attribute, int *attribute_out);

/**
 * Joins the run. The first peer of a run is accepted at once; the others when all accepted peers next call
 * pcclUpdateTopology.
 *
 * Local for who calls it, but it blocks until accepted. After a failure it may be called again with the same
 * communicator.
 *
 * pcclMasterConnectionFailed: the master cannot be reached within the time-out, or refuses this peer: the last
 * error has its reason. pcclRankConnectionFailed: this peer's data port cannot be had. pcclInvalidUsage: connected
 * already. pcclInvalidArgument: settings that only the system knows to be wrong, as a congestion control it does not have.
 */
PCCL_EXPORT
pcclResult_t pcclConnect(struct pcclComm_t *comm);

/**
 * Admits all peers that wait, if they can be reached: the only call by which a run grows.
 *
 * Phase of the run: blocks until every accepted peer has called it, and returns at all of them in the new epoch.
 * Who waits in pcclConnect is no accepted peer yet and cannot hold it up. A newcomer that cannot be reached is
 * refused, with the reason, and harms nobody.
 *
 * pcclPendingAsyncOps: await operations in flight first. pcclInvalidUsage: not connected, another phase call is
 * under way in another thread, or the others are in a call that can never meet this one.
 */
PCCL_EXPORT pcclResult_t pcclUpdateTopology(struct pcclComm_t *comm);

/**
 * Whether peers wait to be admitted: the same answer at every accepted peer, so that all may decide alike on
 * pcclUpdateTopology.
 *
 * Phase of the run: blocks until every accepted peer has called it; admits nobody. Codes of pcclUpdateTopology.
 */
PCCL_EXPORT pcclResult_t pcclArePeersPending(const struct pcclComm_t *comm, bool *pending_out);

/**
 * Measures links that have no fresh figure (some tenths of a second for each peer of a group), and puts each group into
 * the order, and onto the schedules, with the shortest predicted time. Admits nobody.
 *
 * Phase of the run: blocks until every accepted peer has called it. Codes of pcclUpdateTopology, and
 * pcclTopologyOptimizationFailed: nothing could be measured; the run goes on in the order it has, and it may be called again.
 * pcclInvalidUsage: also alone in the run.
 */
PCCL_EXPORT
pcclResult_t pcclOptimizeTopology(const struct pcclComm_t *comm);

/**
 * Combines `sendbuf` of all peers of the group into `recvbuf` of each: the same bits at all of them, or an error
 * at all of them.
 *
 * Operation of the group: blocks until all hold the result. It is both in one, with the codes of pcclAllReduceAsync and
 * pcclAwaitAsyncReduce. `reduce_info_out` may be NULL.
 *
 * pcclRankConnectionLost: a peer went meanwhile. Whatever fails, `sendbuf` is what it was before the call, in
 * place too, and `recvbuf` of a call that is not in place is unspecified: so to call again is always right.
 * docs/guide-c.md has the loop.
 */
PCCL_EXPORT
pcclResult_t pcclAllReduce(const void *sendbuf,
                           void *recvbuf,
                           const struct pcclReduceDescriptor_t *descriptor,
                           const struct pcclComm_t *comm,
                           struct pcclReduceInfo_t *reduce_info_out);

/**
 * A quantized sum or average as pcclAllReduce, with error feedback: `residual` is added to what this peer gives, and holds
 * afterwards what quantization has lost at this peer, for the next call. So nothing is lost for good, and the mean of many
 * calls' results is the true one (docs/QUANTIZATION.md).
 *
 * `residual` has `count` elements of the operation's type, apart from the other buffers; 0 before the first call, and left
 * alone between two. It belongs to this peer and to what is reduced under this tag: it is not shared, and the other peers
 * need not have one. NULL: none, and this is pcclAllReduce.
 *
 * Whatever fails, `residual` is what it was before the call, as `sendbuf` is: so to call again is always right, and nothing
 * counts twice. Codes of pcclAllReduce; pcclInvalidArgument also: a residual for what is not quantized, or is neither sum
 * nor average.
 */
PCCL_EXPORT
pcclResult_t pcclAllReduceWithFeedback(const void *sendbuf,
                                       void *recvbuf,
                                       void *residual,
                                       const struct pcclReduceDescriptor_t *descriptor,
                                       const struct pcclComm_t *comm,
                                       struct pcclReduceInfo_t *reduce_info_out);

/**
 * Starts an all-reduce and returns; `*reduce_handle_out` stands for it. Many may be in flight, told apart by their
 * tags.
 *
 * Operation of the group; does not block. From here until pcclAwaitAsyncReduce (or its kin) has given its end,
 * `sendbuf` and `recvbuf` are the library's: neither read nor written by anybody else. They are the same memory
 * (in place), or disjoint. `descriptor` is copied. Every handle is awaited once; the end of its communicator ends it, too.
 *
 * pcclInvalidArgument: a tag whose handle is not awaited yet, buffers that overlap in part, a count of 0, an operation that
 * the quantization does not have. pcclTooFewPeers: alone in the group. pcclInvalidUsage: not connected. What only the
 * communicator's thread knows comes from the await: a tag that is in flight in a blocking call, a phase call under way in
 * another thread, peers that disagree on count, type, operation or quantization, 4096 operations in flight already, or
 * 65536 different tags between two changes of membership or order (so take tags in turn rather than a running number).
 */
PCCL_EXPORT
pcclResult_t pcclAllReduceAsync(const void *sendbuf,
                                void *recvbuf,
                                const struct pcclReduceDescriptor_t *descriptor,
                                const struct pcclComm_t *comm,
                                struct pcclAsyncReduceOp_t *reduce_handle_out);

/**
 * Starts what pcclAllReduceWithFeedback does and returns; the rest is as of pcclAllReduceAsync. `residual` is the library's,
 * too, until the handle was awaited. Codes of pcclAllReduceAsync; pcclInvalidArgument also for a residual, as there.
 */
PCCL_EXPORT
pcclResult_t pcclAllReduceWithFeedbackAsync(const void *sendbuf,
                                            void *recvbuf,
                                            void *residual,
                                            const struct pcclReduceDescriptor_t *descriptor,
                                            const struct pcclComm_t *comm,
                                            struct pcclAsyncReduceOp_t *reduce_handle_out);

/**
 * Waits for the end of an all-reduce, which uses its handle up: the buffers are the caller's again.
 *
 * Local, from any thread; blocks until the outcome is known at all peers of the group. `reduce_info_out` may be
 * NULL.
 *
 * pcclRankConnectionLost: aborted, as membership changed; the input is what it was: start it again (which is
 * pcclTooFewPeers if nobody else is left). pcclInvalidArgument: a handle that was awaited already (unless its tag was started
 * again: see pcclAsyncReduceOp_t), one whose communicator was destroyed, a tag that was in flight in a blocking call, or peers
 * that disagree on the operation, with both descriptions. pcclTooFewPeers: the last other peer went before it began.
 * pcclInvalidUsage: the others are in calls that can never meet this one, a phase call is under way in another thread, or a
 * limit was met (see pcclAllReduceAsync). pcclMasterConnectionFailed: the master is lost for good, or has put this peer out.
 */
PCCL_EXPORT
pcclResult_t pcclAwaitAsyncReduce(const struct pcclAsyncReduceOp_t *reduce_handle,
                                  struct pcclReduceInfo_t *reduce_info_out);

/**
 * As pcclAwaitAsyncReduce, but for no longer than `timeout_ms`. Of a wait that ends by itself the others cannot know whether
 * it is in vain: calls that can never meet are found where each of them waits without a limit.
 *
 * Codes of pcclAwaitAsyncReduce, and pcclTimeout: not done yet. It goes on, its buffers stay the library's, and the handle is
 * to be awaited again.
 */
PCCL_EXPORT
pcclResult_t pcclAwaitAsyncReduceTimeout(const struct pcclAsyncReduceOp_t *reduce_handle,
                                         uint64_t timeout_ms,
                                         struct pcclReduceInfo_t *reduce_info_out);

/**
 * Whether pcclAwaitAsyncReduce would return at once. Leaves the handle, and the buffers, as they are.
 *
 * Local, from any thread, does not block; as a wait with a limit it proves nothing to the others (see
 * pcclAwaitAsyncReduceTimeout). pcclInvalidArgument: a handle that was awaited already, as of pcclAwaitAsyncReduce.
 */
PCCL_EXPORT pcclResult_t pcclTestAsyncReduce(const struct pcclAsyncReduceOp_t *reduce_handle, bool *done_out);

/**
 * Runs all of these all-reduces, at most `max_in_flight` at once, lowest index first, and repeats those that are
 * aborted until all are done.
 *
 * Operation of the group, every peer of which calls it with the same list; blocks. Buffers as of pcclAllReduce,
 * until the call returns. Those in flight at once need different tags. `reduce_info_out` may be NULL; its byte
 * counts are totals.
 *
 * An empty list succeeds where others are in the group; `descriptors` is not NULL then either. Whatever fails, all of `sendbuf`
 * are what they were before the call, in place too, also of those that were done: so to call again is always right. For this a list
 * in place takes as much memory again until it ends.
 *
 * pcclTooFewPeers: the group has one peer left. pcclInvalidArgument: `max_in_flight` below 1, a tag twice (but for a
 * `max_in_flight` of 1), or what pcclAllReduceAsync refuses, with the index; then nothing was started.
 */
PCCL_EXPORT
pcclResult_t pcclAllReduceMultipleWithRetry(const pcclReduceOpDescriptor_t *descriptors,
                                            size_t descriptor_count,
                                            const struct pcclComm_t *comm,
                                            struct pcclReduceInfo_t *reduce_info_out,
                                            int max_in_flight);

/**
 * As pcclAllReduceMultipleWithRetry, with error feedback as of pcclAllReduceWithFeedback: `residuals` has a pointer for each
 * of `descriptors`, to a residual of its own or NULL for those without. NULL itself: none has one.
 *
 * What is repeated is repeated with the residual that it had before, so nothing counts twice.
 *
 * Codes of pcclAllReduceMultipleWithRetry; pcclInvalidArgument also for a residual, as of pcclAllReduceWithFeedback.
 */
PCCL_EXPORT
pcclResult_t pcclAllReduceMultipleWithRetryAndFeedback(const pcclReduceOpDescriptor_t *descriptors,
                                                       void *const *residuals,
                                                       size_t descriptor_count,
                                                       const struct pcclComm_t *comm,
                                                       struct pcclReduceInfo_t *reduce_info_out,
                                                       int max_in_flight);

/**
 * Makes all peers of the group hold the same tensors, byte for byte. Who wins, and who receives:
 * docs/SHARED-STATE.md.
 *
 * Phase of the group: blocks until every one of its peers has called it, with tensors of the same names, types and
 * sizes, and all hold the same. Tensors are read, and received into in place, until the call returns. On success
 * `shared_state->revision` is the one all hold. `sync_info_out` may be NULL.
 *
 * pcclRankConnectionLost: it could not be finished; some tensors may be received and others not: call again, only
 * what is missing travels. pcclNoSharedStateAvailable: nobody offers one. pcclTooFewPeers: alone in the group.
 * pcclPendingAsyncOps: await operations in flight first. pcclMasterConnectionFailed: put out of the run, also for
 * a revision ahead of the others' or for other tensors than theirs; the last error names the first difference.
 */
PCCL_EXPORT
pcclResult_t pcclSynchronizeSharedState(const struct pcclComm_t *comm,
                                        struct pcclSharedState_t *shared_state,
                                        pcclSharedStateSyncStrategy_t strategy,
                                        struct pcclSharedStateSyncInfo_t *sync_info_out);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PCCL_H */

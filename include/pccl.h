/*
 * pccl: fault-tolerant collective communication over the internet.
 *
 * Every function may be called from any thread, never panics or throws, checks its pointers for NULL and its
 * enums for range, and writes its outputs only on success. Handles that a create function gave out are freed by
 * the destroy function of the same name, once, and not used in another thread meanwhile.
 *
 * Codes that any function can return beside those it names: pcclNotInitialized (those that take a communicator or its
 * parameters, before pcclInit), pcclInvalidArgument (NULL, a number out of range), pcclInternalError (a bug of the library),
 * and, on a communicator that was put out of its run, pcclInvalidUsage. pcclGetLastError has the reason in words.
 *
 * After fork() the child's handles fail with pcclInvalidUsage; the parent's go on.
 */
#ifndef PCCL_H
#define PCCL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ccoip_inet.h"

#if defined(_WIN32)
#define PCCL_EXPORT __declspec(dllimport)
#elif defined(__GNUC__)
#define PCCL_EXPORT __attribute__((visibility("default")))
#else
#define PCCL_EXPORT
#endif

/** Marks pointers that may be NULL; all others may not. */
#define PCCL_NULLABLE

#ifdef __cplusplus
extern "C" {
#endif

typedef enum pcclResult_t {
    pcclSuccess = 0,
    /** pcclInit was not called. */
    pcclNotInitialized = 1,
    /** A bug of the library. */
    pcclInternalError = 2,
    pcclInvalidArgument = 3,
    /** The right arguments at the wrong moment. */
    pcclInvalidUsage = 4,
    /** An all-reduce in a group of fewer than two. */
    pcclTooFewPeers = 5,
    pcclMasterConnectionFailed = 6,
    pcclRankConnectionFailed = 7,
    /** Aborted because membership changed; the input is what it was: call again. */
    pcclRankConnectionLost = 8,
    pcclNoSharedStateAvailable = 9,
    /** A phase call while asynchronous operations are in flight. */
    pcclPendingAsyncOps = 10,
    pcclUpdateTopologyFailed = 11,
    pcclTopologyOptimizationFailed = 12,
    /* Ours begin at 100. */
    /** Not done in time; it goes on. */
    pcclTimeout = 100
} pcclResult_t;

typedef enum pcclDataType_t {
    pcclUint8 = 0,
    pcclInt8 = 1,
    pcclInt16 = 2,
    pcclUint16 = 3,
    pcclUint32 = 4,
    pcclInt32 = 5,
    pcclUint64 = 6,
    pcclInt64 = 7,
    pcclFloat16 = 8,
    pcclBFloat16 = 9,
    pcclFloat = 10,
    pcclDouble = 11
} pcclDataType_t;

typedef enum pcclDeviceType_t {
    pcclDeviceCpu = 0,
    /** Refused with pcclInvalidArgument by builds without CUDA: see pcclGetBuildInfo. */
    pcclDeviceCuda = 1
} pcclDeviceType_t;

typedef enum pcclRedOp_t {
    pcclSum = 0,
    pcclAvg = 1,
    pcclProd = 2,
    pcclMax = 3,
    pcclMin = 4
} pcclRedOp_t;

typedef enum pcclAttribute_t {
    /** Accepted peers of every group. */
    PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE = 1,
    /** Accepted peers of this communicator's group. */
    PCCL_ATTRIBUTE_PEER_GROUP_WORLD_SIZE = 2,
    PCCL_ATTRIBUTE_NUM_DISTINCT_PEER_GROUPS = 3,
    PCCL_ATTRIBUTE_LARGEST_PEER_GROUP_WORLD_SIZE = 4
} pcclAttribute_t;

typedef enum pcclDistributionHint_t {
    pcclDistributionNone = 0,
    pcclDistributionNormal = 1,
    pcclDistributionUniform = 2
} pcclDistributionHint_t;

typedef enum pcclSharedStateSyncStrategy_t {
    /** The content most peers hold wins and replaces every other. If one peer says so, all must. */
    PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR = 0,
    /** Receives what others hold; has no vote. */
    PCCL_SHARED_STATE_SYNC_STRATEGY_RECEIVE_ONLY = 1,
    /** Its content must win; it never receives. */
    PCCL_SHARED_STATE_SYNC_STRATEGY_SEND_ONLY = 2
} pcclSharedStateSyncStrategy_t;

/**
 * What travels instead of the elements, of pcclFloat16, pcclBFloat16, pcclFloat and pcclDouble (docs/QUANTIZATION.md). All but
 * products; integers are refused with pcclInvalidArgument.
 */
typedef enum pcclQuantizationAlgorithm_t {
    pcclQuantNone = 0,
    /** To pcclUint8, pcclInt8, pcclUint16 or pcclInt16. */
    pcclQuantMinMax = 1,
    /** The same, with a code that stands for 0. */
    pcclQuantZeroPointScale = 2,
    /* Ours; the data type is ignored. */
    pcclQuantBits4 = 3,
    pcclQuantFloat8E4M3 = 4,
    pcclQuantFloat8E5M2 = 5,
    /** pcclFloat as f16, products too. */
    pcclQuantFloat16 = 6,
    /** pcclFloat as bf16, products too. */
    pcclQuantBFloat16 = 7
} pcclQuantizationAlgorithm_t;

typedef struct pcclComm_t pcclComm_t;
typedef struct pcclMasterInstanceState_t pcclMasterInstance_t;
typedef struct pcclRankInfo_t pcclRankInfo_t;
typedef struct pcclConfig_t pcclConfig_t;

typedef struct pcclCommCreateParams_t {
    ccoip_socket_address_t master_address;
    uint32_t peer_group;
    /** Connections of each pair; 0: the default. */
    uint32_t p2p_connection_pool_size;
} pcclCommCreateParams_t;

typedef struct pcclReduceInfo_t {
    uint32_t local_world_size;
    uint64_t tx_bytes;
    uint64_t rx_bytes;
} pcclReduceInfo_t;

typedef struct pcclReduceOperandDescriptor_t {
    pcclDataType_t datatype;
    pcclDistributionHint_t distribution_hint;
} pcclReduceOperandDescriptor_t;

typedef struct pcclQuantizationOptions_t {
    /** Ignored if the algorithm is pcclQuantNone. */
    pcclDataType_t quantized_datatype;
    pcclQuantizationAlgorithm_t algorithm;
} pcclQuantizationOptions_t;

typedef struct pcclReduceDescriptor_t {
    /** Elements, at least one. */
    size_t count;
    pcclRedOp_t op;
    /** Names the operation among those in flight. */
    uint64_t tag;
    pcclReduceOperandDescriptor_t src_descriptor;
    pcclQuantizationOptions_t quantization_options;
} pcclReduceDescriptor_t;

/** An all-reduce in flight; awaited exactly once, before its communicator is destroyed. */
typedef struct pcclAsyncReduceOp_t {
    pcclComm_t *comm;
    uint64_t tag;
} pcclAsyncReduceOp_t;

/** One of several all-reduces. */
typedef struct pcclReduceSingleDescriptor_t {
    void *sendbuf;
    void *recvbuf;
    pcclReduceDescriptor_t descriptor;
} pcclReduceOpDescriptor_t;

typedef struct pcclRankUuid_t {
    uint8_t data[16];
} pcclRankUuid_t;

/** A tensor of a shared state. */
typedef struct pcclTensorInfo_t {
    /** UTF-8; names differ within a state. */
    const char *name;
    /** Contiguous; read, and received into in place. May be NULL if `count` is 0. */
    void *data;
    /** Elements; may be 0. */
    size_t count;
    pcclDataType_t datatype;
    pcclDeviceType_t device_type;
    /** Its content may differ between peers: it has no vote, and goes to peers with an outdated revision only. */
    bool allow_content_inequality;
} pcclTensorInfo_t;

typedef struct pcclSharedState_t {
    /** Goes up by one between two synchronizations; a newcomer may have any lower one. Written back. */
    uint64_t revision;
    size_t count;
    pcclTensorInfo_t *infos;
} pcclSharedState_t;

/** Content of tensors that travelled, in whole blocks; both 0 if all held the same. */
typedef struct pcclSharedStateSyncInfo_t {
    uint64_t tx_bytes;
    uint64_t rx_bytes;
} pcclSharedStateSyncInfo_t;

typedef struct pcclBuildInfo_t {
    bool has_cuda_support;
} pcclBuildInfo_t;

/** Counts since the communicator was made, which only grow. Later versions may add fields at the end. */
typedef struct pcclStats_t {
    /** Set it to sizeof(pcclStats_t) before the call: no more is written, and what the library does not know is 0. */
    size_t struct_size;
    uint64_t ops_reduced;
    /** Ended with pcclRankConnectionLost. */
    uint64_t ops_aborted;
    /** Ended with any other error. */
    uint64_t ops_failed;
    /** Synchronizations of shared state that succeeded. */
    uint64_t syncs;
    /** Payload of the operations that were reduced, and of the synchronizations. */
    uint64_t tx_bytes;
    uint64_t rx_bytes;
    /** Epochs this peer has been a member of. */
    uint64_t epochs;
    /** Data connections that came up, and that were closed. */
    uint64_t links_up;
    uint64_t links_closed;
    /** All that data connections have carried, framing included. */
    uint64_t wire_tx_bytes;
    uint64_t wire_rx_bytes;
} pcclStats_t;

/** Once per process, before any call on a communicator; calling it again does nothing. */
PCCL_EXPORT pcclResult_t pcclInit(void);

/** Makes a communicator. No connection is made. */
PCCL_EXPORT pcclResult_t pcclCreateCommunicator(const pcclCommCreateParams_t *params, pcclComm_t **comm_out);

/** The same with settings beyond the fields of the parameters; those win that are said twice here. NULL is refused. */
PCCL_EXPORT pcclResult_t pcclCreateCommunicatorWithConfig(const pcclCommCreateParams_t *params,
                                                          const pcclConfig_t *config, pcclComm_t **comm_out);

/** Before pcclConnect: pcclInvalidUsage. Does not block. */
PCCL_EXPORT pcclResult_t pcclGetAttribute(const pcclComm_t *comm, pcclAttribute_t attribute, int *attribute_out);

/** Leaves the run, ends every thread and socket of the communicator, frees it. Operations in flight abort first. */
PCCL_EXPORT pcclResult_t pcclDestroyCommunicator(pcclComm_t *comm);

/**
 * Blocks until accepted into the run: at once for its first peer, for others when all accepted peers next call
 * pcclUpdateTopology. After a failure it may be called again.
 */
PCCL_EXPORT pcclResult_t pcclConnect(pcclComm_t *comm);

/** Blocks until every accepted peer of the run calls it; admits the peers that wait. */
PCCL_EXPORT pcclResult_t pcclUpdateTopology(pcclComm_t *comm);

/** Blocks until every accepted peer of the run calls it; all get the same answer. */
PCCL_EXPORT pcclResult_t pcclArePeersPending(const pcclComm_t *comm, bool *pending_out);

/**
 * Blocks until every accepted peer of the run calls it; measures links that have no fresh figure, and orders the run by
 * them. Admits nobody. Alone, or not connected: pcclInvalidUsage. This version measures nothing yet and returns
 * pcclTopologyOptimizationFailed at once; the run goes on in the order it has, so a program may go on, too.
 */
PCCL_EXPORT pcclResult_t pcclOptimizeTopology(const pcclComm_t *comm);

/**
 * Combines `sendbuf` of all peers of the group into `recvbuf` of each; the same bits at all. Blocks.
 * The buffers are the same memory (in place) or disjoint. Whatever fails, `sendbuf` is what it was before.
 */
PCCL_EXPORT pcclResult_t pcclAllReduce(const void *sendbuf, void *recvbuf,
                                       const pcclReduceDescriptor_t *descriptor, const pcclComm_t *comm,
                                       pcclReduceInfo_t *PCCL_NULLABLE reduce_info_out);

/** Starts it and returns. The buffers belong to the library until pcclAwaitAsyncReduce returns. */
PCCL_EXPORT pcclResult_t pcclAllReduceAsync(const void *sendbuf, void *recvbuf,
                                            const pcclReduceDescriptor_t *descriptor, const pcclComm_t *comm,
                                            pcclAsyncReduceOp_t *reduce_handle_out);

/** Blocks until the operation has ended. A second await of one handle: pcclInvalidArgument. */
PCCL_EXPORT pcclResult_t pcclAwaitAsyncReduce(const pcclAsyncReduceOp_t *reduce_handle,
                                              pcclReduceInfo_t *PCCL_NULLABLE reduce_info_out);

/** Whether pcclAwaitAsyncReduce would return at once. Does not block, and leaves the handle as it is. */
PCCL_EXPORT pcclResult_t pcclTestAsyncReduce(const pcclAsyncReduceOp_t *reduce_handle, bool *done_out);

/**
 * As pcclAwaitAsyncReduce, but no longer than this: then pcclTimeout, the operation goes on, its buffers stay the library's, and
 * the handle is to be awaited again.
 */
PCCL_EXPORT pcclResult_t pcclAwaitAsyncReduceTimeout(const pcclAsyncReduceOp_t *reduce_handle, uint64_t timeout_ms,
                                                     pcclReduceInfo_t *PCCL_NULLABLE reduce_info_out);

/**
 * Runs all of these, at most `max_in_flight` at once, lowest index first, and repeats those that are aborted until all are
 * done. Blocks. Every peer of the group calls it with the same list. Byte counts are totals. pcclTooFewPeers when the group
 * has one peer left: those that are not done have their inputs. Those in flight at once need different tags.
 */
PCCL_EXPORT pcclResult_t pcclAllReduceMultipleWithRetry(const pcclReduceOpDescriptor_t *descriptors,
                                                        size_t descriptor_count, const pcclComm_t *comm,
                                                        pcclReduceInfo_t *PCCL_NULLABLE reduce_info_out,
                                                        int max_in_flight);

/**
 * Blocks until all peers of the group hold the same tensors, byte for byte; every one of them must call it, with tensors of the
 * same names, types and sizes. Who wins, and who receives: docs/SHARED-STATE.md. On success `revision` is the one all hold.
 * pcclRankConnectionLost: it could not be finished, some tensors may be received and others not; call again, only what is
 * missing travels. pcclNoSharedStateAvailable: nobody offers one. pcclTooFewPeers: alone in the group.
 * pcclPendingAsyncOps: await operations first. pcclMasterConnectionFailed: put out of the run, also for a revision ahead
 * of the others' or for other tensors; pcclGetLastError names the first difference.
 */
PCCL_EXPORT pcclResult_t pcclSynchronizeSharedState(const pcclComm_t *comm, pcclSharedState_t *shared_state,
                                                    pcclSharedStateSyncStrategy_t strategy,
                                                    pcclSharedStateSyncInfo_t *PCCL_NULLABLE sync_info_out);

/** Makes a master that will listen there. No socket is opened. Port 0: any free one. */
PCCL_EXPORT pcclResult_t pcclCreateMaster(ccoip_socket_address_t listen_address,
                                          pcclMasterInstance_t **master_handle_out);

/** The same with settings of masters. */
PCCL_EXPORT pcclResult_t pcclCreateMasterWithConfig(ccoip_socket_address_t listen_address, const pcclConfig_t *config,
                                                    pcclMasterInstance_t **master_handle_out);

/** Listens and serves in the background; returns once the port is open. */
PCCL_EXPORT pcclResult_t pcclRunMaster(pcclMasterInstance_t *master_instance);

/** Where a running master listens: the port it found, if it was created with port 0. */
PCCL_EXPORT pcclResult_t pcclMasterGetAddress(const pcclMasterInstance_t *master_instance,
                                              ccoip_socket_address_t *address_out);

/** Tells a running master to stop; pcclMasterAwaitTermination returns once it has. */
PCCL_EXPORT pcclResult_t pcclInterruptMaster(pcclMasterInstance_t *master_instance);

/** Blocks until the master was interrupted and has stopped. */
PCCL_EXPORT pcclResult_t pcclMasterAwaitTermination(pcclMasterInstance_t *master_instance);

/** Stops the master if it runs, and frees it. */
PCCL_EXPORT pcclResult_t pcclDestroyMaster(pcclMasterInstance_t *master_instance);

/** Settings without any set. */
PCCL_EXPORT pcclResult_t pcclConfigCreate(pcclConfig_t **config_out);

/**
 * One setting of communicators or of masters by its key: docs/SETTINGS.md has them all. An unknown key or an impossible value is
 * pcclInvalidArgument and says what is possible. The environment, PCCL_<KEY>, overrides it when the communicator or master is made.
 */
PCCL_EXPORT pcclResult_t pcclConfigSet(pcclConfig_t *config, const char *key, const char *value);

/** Communicators and masters made with it keep what they were given. */
PCCL_EXPORT pcclResult_t pcclConfigDestroy(pcclConfig_t *config);

/** Works before pcclInit. */
PCCL_EXPORT pcclResult_t pcclGetBuildInfo(pcclBuildInfo_t *build_info_out);

/** Works before pcclInit. */
PCCL_EXPORT pcclResult_t pcclGetVersion(int *major, int *minor, int *patch);

/** What the communicator has done so far. Does not block. */
PCCL_EXPORT pcclResult_t pcclGetStats(const pcclComm_t *comm, pcclStats_t *stats);

/** A code in words; never NULL, never freed. */
PCCL_EXPORT const char *pcclGetErrorString(pcclResult_t result);

/**
 * The last failure in this thread in words: the peer, the operation, the reason. Cut to `len` bytes, the closing zero
 * included; empty if nothing failed yet.
 */
PCCL_EXPORT pcclResult_t pcclGetLastError(char *buffer, size_t len);

#ifdef __cplusplus
}
#endif

#endif /* PCCL_H */

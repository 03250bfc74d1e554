/* perfwatch: two calls in a model server, and perfwatch knows every request's life.
 *
 *   perfwatch_server *server = perfwatch_server_start("my-model");
 *   perfwatch_request *request = perfwatch_request_begin(server);
 *   perfwatch_request_enter(request, PERFWATCH_COMPUTE);
 *   ...
 *   perfwatch_request_finish(request);
 *   perfwatch_server_close(server);
 *
 * Nothing here fails, blocks (but for flush and close) or does I/O on the caller's thread. A null handle is a server, a
 * request or a histogram that records nothing: there is nothing to check. Strings are null-terminated UTF-8 and copied;
 * what is not UTF-8 in them is replaced. Servers and histograms may be used by any thread at any time; a request by one
 * thread at a time, not always the same one. A process may fork: the child counts for itself from there on.
 * PERFWATCH_DISABLED=1 turns all of it into nothing.
 *
 * Generated from the Rust source by cbindgen; do not edit. */

#ifndef PERFWATCH_H
#define PERFWATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * What became of the connection to the agent.
 */
enum perfwatch_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint8_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * `PERFWATCH_DISABLED` is set, or the handle is null: nothing is recorded.
   */
  PERFWATCH_IS_DISABLED = 0,
  /**
   * Started; no connection was tried yet.
   */
  PERFWATCH_IS_STARTING = 1,
  /**
   * An agent receives the flushes.
   */
  PERFWATCH_IS_CONNECTED = 2,
  /**
   * No agent listens at any candidate; totals wait for one.
   */
  PERFWATCH_HAS_NO_AGENT = 3,
  /**
   * A socket is there, but this process may not use it (group or mode).
   */
  PERFWATCH_MAY_NOT_CONNECT = 4,
  /**
   * The agent refused this server.
   */
  PERFWATCH_IS_REFUSED = 5,
  /**
   * The flusher thread could not be started; totals are kept but never sent.
   */
  PERFWATCH_HAS_NO_THREAD = 6,
  /**
   * The server was closed.
   */
  PERFWATCH_IS_CLOSED = 7,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum perfwatch_status perfwatch_status;
#else
typedef uint8_t perfwatch_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What a request is doing. A server's own stages have numbers too: see `perfwatch_server_stage`.
 *
 * Functions take the number, so that a number from nowhere is a stage `other` rather than undefined behaviour.
 */
enum perfwatch_stage
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint8_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Waiting to be taken up at all.
   */
  PERFWATCH_QUEUE = 0,
  /**
   * Decoding, tokenising, resizing: CPU work on the input.
   */
  PERFWATCH_PREPROCESS = 1,
  /**
   * Fetching features, embeddings or files that the model needs.
   */
  PERFWATCH_DATA_LOAD = 2,
  /**
   * Ready for the model, waiting for a batch to form or for its turn.
   */
  PERFWATCH_BATCH_WAIT = 3,
  /**
   * Copying between host and device.
   */
  PERFWATCH_TRANSFER = 4,
  /**
   * Inside the model.
   */
  PERFWATCH_COMPUTE = 5,
  /**
   * Inside the model, reading the prompt.
   */
  PERFWATCH_PREFILL = 6,
  /**
   * Inside the model, generating tokens.
   */
  PERFWATCH_DECODE = 7,
  /**
   * CPU work on the output.
   */
  PERFWATCH_POSTPROCESS = 8,
  /**
   * Writing the response to the client.
   */
  PERFWATCH_SEND = 9,
  /**
   * In the server, in no stage that it named. Every request begins here.
   */
  PERFWATCH_OTHER = 10,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum perfwatch_stage perfwatch_stage;
#else
typedef uint8_t perfwatch_stage;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What the integers of a histogram are.
 */
enum perfwatch_unit
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint8_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Time; record nanoseconds. Shown and exported in seconds.
   */
  PERFWATCH_NANOSECONDS = 0,
  /**
   * Bytes.
   */
  PERFWATCH_BYTES = 1,
  /**
   * Requests.
   */
  PERFWATCH_REQUESTS = 2,
  /**
   * Tokens.
   */
  PERFWATCH_TOKENS = 3,
  /**
   * Anything else that is counted. Also what an unknown number means.
   */
  PERFWATCH_ITEMS = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum perfwatch_unit perfwatch_unit;
#else
typedef uint8_t perfwatch_unit;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * A handle to record values into one distribution of a server. Any thread may use it.
 */
typedef struct perfwatch_histogram perfwatch_histogram;

/**
 * What a server says about itself before it starts. One thread at a time may use it.
 */
typedef struct perfwatch_options perfwatch_options;

/**
 * A request that is inside the server, in exactly one stage at any instant. One thread at a time may use it.
 */
typedef struct perfwatch_request perfwatch_request;

/**
 * A model server that perfwatch watches. Any thread may use it.
 */
typedef struct perfwatch_server perfwatch_server;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Starts recording, and a thread that sends a flush per second to the agent beside the server, now or whenever one
 * appears. `service` is what the server is called ("llama-70b"), at most 128 bytes; null means "unnamed".
 *
 * # Safety
 * `service` is null or a null-terminated string.
 */
perfwatch_server *perfwatch_server_start(const char *service);

/**
 * Describes a server before it starts; end it with `perfwatch_options_start`. `service` as in `perfwatch_server_start`.
 *
 * # Safety
 * `service` is null or a null-terminated string.
 */
perfwatch_options *perfwatch_options_new(const char *service);

/**
 * Which of the service's instances this is. Worker processes that give the same are one server. Without it the SDK takes
 * `PERFWATCH_INSTANCE`, the parent process when it runs the same executable, or the process itself.
 *
 * # Safety
 * `options` is null or live; `instance` is null or a null-terminated string.
 */
void perfwatch_options_instance(perfwatch_options *options,
                                const char *instance);

/**
 * The most requests the server puts into one batch.
 *
 * # Safety
 * `options` is null or live.
 */
void perfwatch_options_max_batch_size(perfwatch_options *options, uint32_t requests);

/**
 * A setting of the server that a finding may name. No secrets: it is shown as it is. At most 64 leave.
 *
 * # Safety
 * `options` is null or live; `key` and `value` are null or null-terminated strings.
 */
void perfwatch_options_config(perfwatch_options *options, const char *key, const char *value);

/**
 * The agent's probe socket, instead of the usual places.
 *
 * # Safety
 * `options` is null or live; `path` is null or a null-terminated string.
 */
void perfwatch_options_socket(perfwatch_options *options, const char *path);

/**
 * Starts the server as described, and releases the description. Null if `options` is.
 *
 * # Safety
 * `options` is null or live, which it is no more afterwards.
 */
perfwatch_server *perfwatch_options_start(perfwatch_options *options);

/**
 * A batch of `size` requests was executed, formed when `ready` requests were waiting for it (in stage `batch_wait`, with
 * nothing left to do before the model). `ready` tells a server that cannot batch from one that need not.
 *
 * # Safety
 * `server` is null or live.
 */
void perfwatch_server_dispatch(const perfwatch_server *server,
                               uint32_t size,
                               uint32_t ready);

/**
 * A look-up in a cache (of results, prefixes, embeddings) was answered from it.
 *
 * # Safety
 * `server` is null or live.
 */
void perfwatch_server_cache_hit(const perfwatch_server *server);

/**
 * A look-up in a cache was not answered from it.
 *
 * # Safety
 * `server` is null or live.
 */
void perfwatch_server_cache_miss(const perfwatch_server *server);

/**
 * The number of a stage by its name: a built-in one (`data_load`) or one of the server's own. There is room for five of
 * these; a sixth gives `PERFWATCH_OTHER`. Get it once, enter often.
 *
 * # Safety
 * `server` is null or live; `name` is null or a null-terminated string.
 */
uint8_t perfwatch_server_stage(const perfwatch_server *server, const char *name);

/**
 * What became of the connection to the agent.
 *
 * # Safety
 * `server` is null or live.
 */
perfwatch_status perfwatch_server_status(const perfwatch_server *server);

/**
 * Sends everything up to now instead of waiting for the whole second, and waits up to four seconds for the agent's
 * receipt. True when the agent has it. For tests and orderly shutdown.
 *
 * # Safety
 * `server` is null or live.
 */
bool perfwatch_server_flush(const perfwatch_server *server);

/**
 * Sends what is left, waits up to four seconds for the agent's receipt, ends the server's thread and releases the handle.
 * True when the agent has everything. Requests and histograms of the server may still be used and released, but what they
 * record is not sent any more.
 *
 * # Safety
 * `server` is null or live, which it is no more afterwards.
 */
bool perfwatch_server_close(perfwatch_server *server);

/**
 * A request arrived; it is in stage `other` until it enters another. End it with `perfwatch_request_finish`, `_fail`,
 * `_fail_with`, `_cancel` or `_abandon`. Null if `server` is.
 *
 * # Safety
 * `server` is null or a live server. The request may outlive it.
 */
perfwatch_request *perfwatch_request_begin(const perfwatch_server *server);

/**
 * Goes to another stage, and so out of the present one. `stage` is a `perfwatch_stage` or the answer of
 * `perfwatch_server_stage`; any other number means `other`.
 *
 * # Safety
 * `request` is null or a live request, which no other thread is using.
 */
void perfwatch_request_enter(perfwatch_request *request, uint8_t stage);

/**
 * One more token was generated. The first one gives the time to first token (since the request's arrival), each later one
 * the time since the one before.
 *
 * # Safety
 * `request` is null or a live request, which no other thread is using.
 */
void perfwatch_request_token(perfwatch_request *request);

/**
 * A step of the stream brought this many tokens: one time is recorded for the step, and all tokens are counted. A step of
 * 0 tokens is none.
 *
 * # Safety
 * `request` is null or a live request, which no other thread is using.
 */
void perfwatch_request_tokens(perfwatch_request *request,
                              uint32_t count);

/**
 * Says how many tokens the prompt has. Said again, only what is more than before counts.
 *
 * # Safety
 * `request` is null or a live request, which no other thread is using.
 */
void perfwatch_request_prompt_tokens(perfwatch_request *request, uint64_t total);

/**
 * Says how many tokens were generated in all, for servers that learn it at the end. What `perfwatch_request_token` and
 * `perfwatch_request_tokens` counted already does not count twice.
 *
 * # Safety
 * `request` is null or a live request, which no other thread is using.
 */
void perfwatch_request_generated_tokens(perfwatch_request *request, uint64_t total);

/**
 * Takes the trace id out of a `traceparent` header of W3C Trace Context, so that a slow request can be looked up; what is
 * none is ignored.
 *
 * # Safety
 * `request` is null or a live request, which no other thread is using; `header` is null or a null-terminated string.
 */
void perfwatch_request_traceparent(perfwatch_request *request,
                                   const char *header);

/**
 * Ends it well, and releases the handle.
 *
 * # Safety
 * `request` is null or a live request, which it is no more afterwards.
 */
void perfwatch_request_finish(perfwatch_request *request);

/**
 * Ends it with an error of kind `other`, and releases the handle.
 *
 * # Safety
 * `request` is null or a live request, which it is no more afterwards.
 */
void perfwatch_request_fail(perfwatch_request *request);

/**
 * Ends it with an error of this kind, as OpenTelemetry's `error.type`, and releases the handle: a short name out of a small
 * set, such as `timeout` or `503`, never a message. There is room for 15 names of at most 128 bytes; further ones count as
 * `other`, as null does.
 *
 * # Safety
 * `request` is null or a live request, which it is no more afterwards; `kind` is null or a null-terminated string.
 */
void perfwatch_request_fail_with(perfwatch_request *request,
                                 const char *kind);

/**
 * Ends it because its client went away, and releases the handle.
 *
 * # Safety
 * `request` is null or a live request, which it is no more afterwards.
 */
void perfwatch_request_cancel(perfwatch_request *request);

/**
 * Ends it without a verdict, and releases the handle. It counts as abandoned, apart from all others, and its duration
 * is not recorded.
 *
 * # Safety
 * `request` is null or a live request, which it is no more afterwards.
 */
void perfwatch_request_abandon(perfwatch_request *request);

/**
 * A handle to a distribution of the server's own, as `llm.prompt_length`. Get it once, record often. The same name gives
 * the same distribution, and the unit given first holds. `unit` is a `perfwatch_unit`. Null if `server` or `name` is. There
 * is room for 236 names; the handle of a further one records nothing, and the agent is told that it was asked for.
 *
 * Release it with `perfwatch_histogram_free`.
 *
 * # Safety
 * `server` is null or a live server; `name` is null or a null-terminated string.
 */
perfwatch_histogram *perfwatch_histogram_new(const perfwatch_server *server,
                                             const char *name,
                                             uint8_t unit);

/**
 * Records one value, in the unit of the histogram (time: nanoseconds). Never blocks; allocates only on a thread's first
 * value in an octave (a factor of two). Values above 3.6e12 (one hour) are counted as that, while the sum stays exact.
 *
 * # Safety
 * `histogram` is null or a live handle.
 */
void perfwatch_histogram_record(const perfwatch_histogram *histogram, uint64_t value);

/**
 * Releases the handle. What it recorded stays recorded.
 *
 * # Safety
 * `histogram` is null or a live handle, which it is no more afterwards.
 */
void perfwatch_histogram_free(perfwatch_histogram *histogram);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PERFWATCH_H */

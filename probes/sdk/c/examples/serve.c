/* A model server with four worker threads, instrumented. Prints what perfwatch was told; exits 0 when an agent has it all.
 *
 *   cargo build --release -p perfwatch-c && cc probes/sdk/c/examples/serve.c -Iprobes/sdk/c/include -o target/serve \
 *     -Ltarget/release -lperfwatch -Wl,-rpath,"$PWD/target/release" -lpthread && target/serve
 *
 * It compiles as C++ too (`c++ -x c++`), and with target/release/libperfwatch.a in place of -lperfwatch and the path behind
 * it, which then needs -lm. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "perfwatch.h"

enum { WORKERS = 4, REQUESTS = 250 };

static perfwatch_server *server;
static perfwatch_histogram *lengths;
static uint8_t rerank;

static void pause_us(long microseconds) {
    struct timespec time = {0, microseconds * 1000};
    nanosleep(&time, NULL);
}

static void *work(void *unused) {
    (void)unused;
    for (int i = 0; i < REQUESTS; i++) {
        perfwatch_request *request = perfwatch_request_begin(server);
        perfwatch_request_enter(request, PERFWATCH_PREPROCESS);
        pause_us(50);
        perfwatch_request_enter(request, PERFWATCH_COMPUTE);
        perfwatch_server_dispatch(server, 1, 1);
        pause_us(200);
        perfwatch_request_enter(request, rerank);
        perfwatch_histogram_record(lengths, (uint64_t)i);
        perfwatch_request_prompt_tokens(request, 10);
        perfwatch_request_token(request);
        perfwatch_request_tokens(request, 2);
        if (i % 2 == 0)
            perfwatch_server_cache_hit(server);
        else
            perfwatch_server_cache_miss(server);
        if (i % 10 == 9)
            perfwatch_request_fail_with(request, "timeout");
        else
            perfwatch_request_finish(request);
    }
    return NULL;
}

int main(int count, char **arguments) {
    perfwatch_options *options = perfwatch_options_new("c-example");
    perfwatch_options_max_batch_size(options, 1);
    perfwatch_options_config(options, "workers", "4");
    if (count > 1)
        perfwatch_options_socket(options, arguments[1]);
    server = perfwatch_options_start(options);
    lengths = perfwatch_histogram_new(server, "example.length", PERFWATCH_TOKENS);
    rerank = perfwatch_server_stage(server, "rerank");

    pthread_t threads[WORKERS];
    for (int i = 0; i < WORKERS; i++)
        if (pthread_create(&threads[i], NULL, work, NULL) != 0)
            return 2;
    for (int i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);

    perfwatch_histogram_free(lengths);
    bool received = perfwatch_server_close(server);
    printf("%d requests, %d of them failed, %s\n", WORKERS * REQUESTS, WORKERS * REQUESTS / 10,
           received ? "all with the agent" : "no agent took them");
    return received ? 0 : 1;
}

/* `load endtoend`: one producer and one consumer of all partitions in one process.
 *
 * A record counts from the moment it was due until the consumer has it. Each carries that moment, its number and a mark of this
 * run, so that what lies in the topic already is passed over. The first second of a fixed rate is not counted. linger 5 ms, as
 * in `produce`: without it no broker is given batches, and none reaches much of its peak.
 */
#include "load.h"

#include <pthread.h>
#include <stdatomic.h>

#define STALLED_S 120 /* so long without a record is the end */
#define LINGER "5"
#define BATCH "1000000"

struct stamp {
        double due;
        long number;
        double run;
};

static double run; /* the mark of this run */
static double *took;
static long warm, total;
static atomic_long got;
static _Atomic double last;

static void on_record(rd_kafka_message_t *m, void *opaque) {
        struct stamp s;
        (void)opaque;
        if (m->err || m->len < sizeof s)
                return;
        memcpy(&s, m->payload, sizeof s);
        if (s.run != run || s.number < 0 || s.number >= total)
                return;
        last = now();
        took[s.number] = last - s.due;
        got++;
}

static void *read_all(void *rk) {
        rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(rk);
        for (double since = now(); got < total && now() - (last > since ? last : since) < STALLED_S;)
                rd_kafka_consume_callback_queue(queue, 100, on_record, NULL);
        return NULL;
}

static void *take_acknowledgements(void *rk) {
        while (got < total)
                rd_kafka_poll(rk, 100);
        return NULL;
}

static void send_all(rd_kafka_t *rk, const char *name, int partitions, size_t size, double rate) {
        rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, name, NULL);
        char *value = malloc(size);
        for (size_t i = 0; i < size; i++)
                value[i] = (char)(rand() & 0x7f);
        double start = now();
        for (long i = 0; i < total; i++) {
                struct stamp s = {rate ? start + i / rate : now(), i, run};
                if (rate && s.due > now())
                        sleep_until(s.due);
                memcpy(value, &s, sizeof s);
                while (rd_kafka_produce(topic, (int)(i % partitions), RD_KAFKA_MSG_F_COPY, value, size, NULL, 0, NULL) == -1) {
                        if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
                                die("produce", rd_kafka_err2str(rd_kafka_last_error()));
                        sleep_until(now() + 0.001);
                }
        }
}

int end_to_end(const char *broker, const char *name, int partitions, size_t size, long count, double rate) {
        if (size < sizeof(struct stamp))
                die("endtoend", "records have to hold a time, a number and a mark: use a SIZE of 24 or more");
        run = now();
        warm = (long)rate;
        total = warm + count;
        took = calloc(total, sizeof *took);
        rd_kafka_t *reader = assigned(broker, name, partitions, "1048576");
        rd_kafka_t *writer = producer(broker, LINGER, BATCH, REQUEST_TIMEOUT);
        pthread_t reading, taking;
        pthread_create(&reading, NULL, read_all, reader);
        pthread_create(&taking, NULL, take_acknowledgements, writer);
        double start = now(), cpu_start = cpu();
        send_all(writer, name, partitions, size, rate);
        pthread_join(reading, NULL);
        double seconds = last - start;
        if (got < total) {
                fprintf(stderr, "endtoend: %ld of %ld records were read, then none for %d s\n", (long)got, total, STALLED_S);
                return 1;
        }
        long measured = total - warm; /* the first second connects and warms up */
        qsort(took + warm, measured, sizeof *took, ascending);
#define TOOK(q) (took[warm + (long)(measured * (q))] * 1e3)
        printf("{\"seconds\": %.3f, \"records_per_s\": %.0f, \"mb_per_s\": %.2f, \"client_cpu_s\": %.3f", seconds,
               total / seconds, total * (double)size / seconds / 1e6, cpu() - cpu_start);
        if (rate)
                printf(", \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"p999_ms\": %.3f", TOOK(0.5), TOOK(0.99), TOOK(0.999));
        printf("}\n");
        return 0;
}

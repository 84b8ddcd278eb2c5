/* The load generator of the side-by-side benchmark: one C program on librdkafka, the same for every broker.
 *
 *   load create  BROKERS TOPIC PARTITIONS [REPLICAS]         and waits for the leaders
 *   load leader  BROKERS TOPIC                               of partition 0
 *   load delete  BROKER TOPIC
 *   load produce BROKER TOPIC PARTITIONS SIZE COUNT BATCH     as fast as it goes, batches of up to BATCH bytes
 *   load latency BROKER TOPIC PARTITIONS SIZE COUNT RATE [TIMEOUT_MS]
 *                                                             RATE records a second, linger 0; how long a request may
 *                                                             take, if not as long as librdkafka lets it
 *   load consume BROKER TOPIC PARTITIONS COUNT                from the beginning
 *   load ready   BROKER TOPIC PARTITIONS SINCE                seconds after SINCE (CLOCK_REALTIME) until metadata is
 *                                                             complete, and until every partition has been read from
 *
 *   load endtoend BROKER TOPIC PARTITIONS SIZE COUNT RATE     produces and reads at the same time (endtoend.c); RATE 0 is as
 *                                                             fast as it goes
 *   load gets    HOST:PORT TOPIC KEYS COUNT THREADS           asks jangbu's HTTP port for random keys (gets.c)
 *
 * Behind these, options: keys=N gives each record one of N keys in a random order, the same each time; config=NAME=VALUE
 * sets a config of a topic that is created; step=N has a topic made with N partitions and grow by N at a time; codec=NAME has
 * produce compress.
 *
 * Each prints one line of JSON. acks=all, idempotent, no compression unless asked for; record i goes to partition i % PARTITIONS.
 * Latencies count from the moment a record was due, not from when the client got round to sending it.
 */
#include "load.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static const char *codec = "none";
long keys; /* 0: records have none */
static char *configs[16];
static int config_count;
static int step; /* 0: topics are made with all their partitions at once */
static double *latencies; /* not NULL while latency is what is measured */
static long delivered, failed;
static long warm; /* records of the first second of a latency load, which connects */
static double last_ack, longest_gap; /* seconds; counted after the first second of a latency load */

double now(void) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        return t.tv_sec + t.tv_nsec / 1e9;
}

double cpu(void) {
        struct rusage u;
        getrusage(RUSAGE_SELF, &u);
        return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

void die(const char *what, const char *why) {
        fprintf(stderr, "%s: %s\n", what, why);
        exit(1);
}

static rd_kafka_t *client(rd_kafka_type_t type, const char *broker, const char **settings) {
        char error[512];
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        rd_kafka_conf_set(conf, "bootstrap.servers", broker, NULL, 0);
        for (; *settings; settings += 2)
                if (rd_kafka_conf_set(conf, settings[0], settings[1], error, sizeof error) != RD_KAFKA_CONF_OK)
                        die(settings[0], error);
        rd_kafka_t *rk = rd_kafka_new(type, conf, error, sizeof error);
        if (!rk)
                die("client", error);
        return rk;
}

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque) {
        (void)rk, (void)opaque;
        if (m->err) {
                failed++;
                return;
        }
        if (latencies) {
                double at = now();
                latencies[delivered] = at - ((double *)m->_private)[0];
                if (last_ack && at - last_ack > longest_gap)
                        longest_gap = at - last_ack;
                if (last_ack || delivered >= warm)
                        last_ack = at;
        }
        delivered++;
}

rd_kafka_t *producer(const char *broker, const char *linger, const char *batch, const char *timeout) {
        char error[512];
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        const char *settings[] = {"bootstrap.servers", broker, "acks", "all", "enable.idempotence", "true", "linger.ms",
                                  linger, "batch.size", batch, "compression.type", codec,
                                  "queue.buffering.max.messages", "1000000", "queue.buffering.max.kbytes", "262144",
                                  "message.timeout.ms", "300000", "request.timeout.ms", timeout,
                                  "socket.timeout.ms", strcmp(timeout, REQUEST_TIMEOUT) ? timeout : "60000", NULL};
        for (const char **s = settings; *s; s += 2)
                if (rd_kafka_conf_set(conf, s[0], s[1], error, sizeof error) != RD_KAFKA_CONF_OK)
                        die(s[0], error);
        rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
        rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
        if (!rk)
                die("producer", error);
        return rk;
}

uint64_t shuffle(uint64_t x) { /* splitmix64's */
        x += 0x9e3779b97f4a7c15;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
        x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
        return x ^ (x >> 31);
}

/* The key of record i. The first KEYS records have each key once, so that every key is there. */
static size_t key_of(char *key, long i) {
        if (!keys)
                return 0;
        return sprintf(key, KEY_FORMAT, i < keys ? i : (long)(shuffle(i) % keys));
}

static void send_one(rd_kafka_t *rk, rd_kafka_topic_t *topic, int partitions, long i, char *value, size_t size,
                     void *due) {
        char key[32];
        size_t length = key_of(key, i);
        while (rd_kafka_produce(topic, (int)(i % partitions), RD_KAFKA_MSG_F_COPY, value, size, length ? key : NULL,
                                length, due) == -1) {
                if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
                        die("produce", rd_kafka_err2str(rd_kafka_last_error()));
                rd_kafka_poll(rk, 10);
        }
        if (!latencies) /* else a thread of its own does it */
                rd_kafka_poll(rk, 0);
}

int ascending(const void *a, const void *b) {
        double x = *(double *)a, y = *(double *)b;
        return (x > y) - (x < y);
}

static void print_rate(double start, double cpu_start, long count, double bytes) {
        double seconds = now() - start;
        printf("{\"seconds\": %.3f, \"records\": %ld, \"records_per_s\": %.0f, \"mb_per_s\": %.2f, \"client_cpu_s\": %.3f}\n",
               seconds, count, count / seconds, bytes / seconds / 1e6, cpu() - cpu_start);
}

static int produce(const char *broker, const char *name, int partitions, size_t size, long count, const char *batch) {
        rd_kafka_t *rk = producer(broker, "5", batch, REQUEST_TIMEOUT);
        rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, name, NULL);
        const struct rd_kafka_metadata *m;
        rd_kafka_metadata(rk, 0, topic, &m, 60000); /* connected and informed before the clock starts */
        char *value = malloc(size);
        for (size_t i = 0; i < size; i++)
                value[i] = (char)(rand() & 0x7f);
        double start = now(), cpu_start = cpu();
        for (long i = 0; i < count; i++)
                send_one(rk, topic, partitions, i, value, size, NULL);
        rd_kafka_flush(rk, 300000);
        print_rate(start, cpu_start, delivered, (double)delivered * size);
        return failed || delivered != count;
}

static atomic_int sending = 1;

/* Takes acknowledgements as they come; a client that spins would take a core from the broker. */
static void *take_acknowledgements(void *rk) {
        while (sending)
                rd_kafka_poll(rk, 100);
        return NULL;
}

void sleep_until(double when) {
        struct timespec t = {(time_t)when, (long)((when - (time_t)when) * 1e9)};
        while (clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, NULL))
                ;
}

static int latency(const char *broker, const char *name, int partitions, size_t size, long count, double rate,
                   const char *timeout) {
        rd_kafka_t *rk = producer(broker, "0", "1000000", timeout);
        rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, name, NULL);
        char *value = calloc(1, size);
        warm = (long)rate;
        long total = warm + count;
        double *due = malloc(sizeof(double) * total);
        latencies = malloc(sizeof(double) * total);
        pthread_t taker;
        pthread_create(&taker, NULL, take_acknowledgements, rk);
        double start = now();
        for (long i = 0; i < total; i++) {
                due[i] = start + i / rate;
                sleep_until(due[i]);
                send_one(rk, topic, partitions, i, value, size, &due[i]);
        }
        sending = 0;
        pthread_join(taker, NULL);
        rd_kafka_flush(rk, 300000);
        double seconds = now() - start;
        long measured = delivered - warm; /* the first second connects and warms up */
        qsort(latencies + warm, measured, sizeof(double), ascending);
#define AT(q) (latencies[warm + (long)(measured * (q))] * 1e3)
        printf("{\"seconds\": %.3f, \"records_per_s\": %.0f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"p999_ms\": %.3f, "
               "\"longest_gap_ms\": %.1f}\n",
               seconds, delivered / seconds, AT(0.5), AT(0.99), AT(0.999), longest_gap * 1e3);
        return failed || delivered != total;
}

rd_kafka_t *assigned(const char *broker, const char *name, int partitions, const char *partition_bytes) {
        const char *settings[] = {"group.id", "none", "enable.auto.commit", "false", "fetch.message.max.bytes",
                                  partition_bytes, "queued.max.messages.kbytes", "262144", "log_level", "0", NULL};
        rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, broker, settings);
        rd_kafka_poll_set_consumer(rk);
        rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
        for (int p = 0; p < partitions; p++)
                rd_kafka_topic_partition_list_add(list, name, p)->offset = 0;
        rd_kafka_assign(rk, list);
        return rk;
}

static int consume(const char *broker, const char *name, int partitions, long count) {
        rd_kafka_t *rk = assigned(broker, name, partitions, "1048576");
        rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(rk);
        rd_kafka_message_t *batch[10000];
        double start = now(), cpu_start = cpu(), bytes = 0;
        long got = 0;
        while (got < count && now() - start < 300) {
                size_t left = count - got; /* it waits until it has as many as it is asked for */
                ssize_t n = rd_kafka_consume_batch_queue(queue, 1000, batch, left < 10000 ? left : 10000);
                for (ssize_t i = 0; i < n; i++) {
                        if (!batch[i]->err) {
                                got++;
                                bytes += batch[i]->len;
                        }
                        rd_kafka_message_destroy(batch[i]);
                }
        }
        print_rate(start, cpu_start, got, bytes);
        return got < count;
}

static int leaders(rd_kafka_t *rk, rd_kafka_topic_t *topic) {
        const struct rd_kafka_metadata *m;
        int with = 0;
        if (rd_kafka_metadata(rk, 0, topic, &m, 1000))
                return 0;
        for (int p = 0; m->topic_cnt == 1 && p < m->topics[0].partition_cnt; p++)
                with += m->topics[0].partitions[p].leader >= 0 && !m->topics[0].partitions[p].err;
        rd_kafka_metadata_destroy(m);
        return with;
}

static int ready(const char *broker, const char *name, int partitions, double since) {
        const char *settings[] = {"log_level", "0", "reconnect.backoff.ms", "10",
                                  "reconnect.backoff.max.ms", "20", NULL};
        rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, broker, settings);
        rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, name, NULL);
        while (leaders(rk, topic) < partitions)
                usleep(10000);
        double metadata = now() - since;
        /* A little of each, and no more of what has been seen: librdkafka asks for the same partitions first again
         * and again, and would read most of the data before it has seen the last one. */
        rd_kafka_t *reader = assigned(broker, name, partitions, "65536");
        char *seen = calloc(1, partitions);
        for (int left = partitions; left > 0;) {
                rd_kafka_message_t *m = rd_kafka_consumer_poll(reader, 100);
                if (m && !m->err && !seen[m->partition]) {
                        seen[m->partition] = 1;
                        left--;
                        rd_kafka_topic_partition_list_t *done = rd_kafka_topic_partition_list_new(1);
                        rd_kafka_topic_partition_list_add(done, name, m->partition);
                        rd_kafka_pause_partitions(reader, done);
                        rd_kafka_topic_partition_list_destroy(done);
                }
                if (m)
                        rd_kafka_message_destroy(m);
                if (now() - since > 600)
                        die("ready", "not all partitions can be read after 600 s");
        }
        printf("{\"metadata_s\": %.2f, \"readable_s\": %.2f}\n", metadata, now() - since);
        return 0;
}

/* What came of the one topic that a request named; ends the program if it is not what was asked for. */
static void done(rd_kafka_queue_t *queue, const char *name) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 130000);
        if (!event || rd_kafka_event_error(event))
                die("admin", event ? rd_kafka_event_error_string(event) : "timed out");
        const rd_kafka_topic_result_t **results;
        size_t n;
        switch (rd_kafka_event_type(event)) {
        case RD_KAFKA_EVENT_CREATETOPICS_RESULT:
                results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &n);
                break;
        case RD_KAFKA_EVENT_CREATEPARTITIONS_RESULT:
                results = rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(event), &n);
                break;
        default:
                results = rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &n);
        }
        if (n != 1 || rd_kafka_topic_result_error(results[0]))
                die(name, rd_kafka_err2str(rd_kafka_topic_result_error(results[0])));
        rd_kafka_event_destroy(event);
}

static void create(rd_kafka_t *rk, rd_kafka_AdminOptions_t *options, rd_kafka_queue_t *queue, const char *name,
                   int partitions, int replicas) {
        char error[512];
        int made = step && step < partitions ? step : partitions;
        rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(name, made, replicas, error, sizeof error);
        for (int i = 0; i < config_count; i++) {
                char *value = strchr(configs[i], '=');
                if (!value)
                        die(configs[i], "a config is NAME=VALUE");
                *value = 0;
                rd_kafka_NewTopic_set_config(topic, configs[i], value + 1);
        }
        rd_kafka_CreateTopics(rk, &topic, 1, options, queue);
        done(queue, name);
        rd_kafka_topic_t *it = rd_kafka_topic_new(rk, name, NULL);
        for (;;) {
                while (leaders(rk, it) < made)
                        usleep(10000);
                if (made == partitions)
                        return;
                made = made + step < partitions ? made + step : partitions;
                rd_kafka_NewPartitions_t *more = rd_kafka_NewPartitions_new(name, made, error, sizeof error);
                rd_kafka_CreatePartitions(rk, &more, 1, options, queue);
                done(queue, name);
                rd_kafka_NewPartitions_destroy(more);
        }
}

static int admin(const char *broker, const char *name, int partitions, int replicas) {
        const char *settings[] = {"log_level", "4", NULL}; /* not that a topic grew */
        rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, broker, settings);
        rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
        rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_ANY);
        rd_kafka_AdminOptions_set_request_timeout(options, 120000, NULL, 0);
        rd_kafka_AdminOptions_set_operation_timeout(options, 110000, NULL, 0);
        if (partitions) {
                create(rk, options, queue, name, partitions, replicas);
        } else {
                rd_kafka_DeleteTopic_t *topic = rd_kafka_DeleteTopic_new(name);
                rd_kafka_DeleteTopics(rk, &topic, 1, options, queue);
                done(queue, name);
        }
        printf("{}\n");
        return 0;
}

static int leader(const char *broker, const char *name) {
        const char *settings[] = {NULL};
        const struct rd_kafka_metadata *m;
        rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, broker, settings);
        if (rd_kafka_metadata(rk, 0, rd_kafka_topic_new(rk, name, NULL), &m, 10000) || m->topics[0].partition_cnt < 1)
                die(name, "no metadata");
        printf("{\"leader\": %d}\n", (int)m->topics[0].partitions[0].leader);
        return 0;
}

int main(int argc, char **argv) {
        for (; argc > 1; argc--) {
                char *last = argv[argc - 1];
                if (!strncmp(last, "keys=", 5))
                        keys = atol(last + 5);
                else if (!strncmp(last, "step=", 5))
                        step = atoi(last + 5);
                else if (!strncmp(last, "codec=", 6))
                        codec = last + 6;
                else if (!strncmp(last, "config=", 7) && config_count < 16)
                        configs[config_count++] = last + 7;
                else
                        break;
        }
        const char *verb = argc > 3 ? argv[1] : "";
        int code = 2;
        setvbuf(stdout, NULL, _IOLBF, 0);
        if (!strcmp(verb, "create") && (argc == 5 || argc == 6))
                code = admin(argv[2], argv[3], atoi(argv[4]), argc == 6 ? atoi(argv[5]) : 1);
        else if (!strcmp(verb, "delete") && argc == 4)
                code = admin(argv[2], argv[3], 0, 0);
        else if (!strcmp(verb, "leader") && argc == 4)
                code = leader(argv[2], argv[3]);
        else if (!strcmp(verb, "produce") && argc == 8)
                code = produce(argv[2], argv[3], atoi(argv[4]), atol(argv[5]), atol(argv[6]), argv[7]);
        else if (!strcmp(verb, "latency") && (argc == 8 || argc == 9))
                code = latency(argv[2], argv[3], atoi(argv[4]), atol(argv[5]), atol(argv[6]), atof(argv[7]),
                               argc == 9 ? argv[8] : REQUEST_TIMEOUT);
        else if (!strcmp(verb, "consume") && argc == 6)
                code = consume(argv[2], argv[3], atoi(argv[4]), atol(argv[5]));
        else if (!strcmp(verb, "endtoend") && argc == 8)
                code = end_to_end(argv[2], argv[3], atoi(argv[4]), atol(argv[5]), atol(argv[6]), atof(argv[7]));
        else if (!strcmp(verb, "gets") && argc == 7) {
                keys = atol(argv[4]);
                code = gets_of(argv[2], argv[3], atol(argv[5]), atoi(argv[6]));
        } else if (!strcmp(verb, "ready") && argc == 6)
                code = ready(argv[2], argv[3], atoi(argv[4]), atof(argv[5]));
        else
                fprintf(stderr, "usage: see the head of load.c\n");
        fflush(stdout);
        _exit(code); /* tearing the client down is not measured */
}

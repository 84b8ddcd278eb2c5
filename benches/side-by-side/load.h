/* What the files of the load generator share; load.c says what it is. */
#define _GNU_SOURCE
#include <librdkafka/rdkafka.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQUEST_TIMEOUT "30000" /* librdkafka's own */
#define KEY_FORMAT "key-%010ld"

extern long keys; /* 0: records have none */

double now(void); /* seconds since 1970 */
double cpu(void); /* seconds this program has used */
void die(const char *what, const char *why);
uint64_t shuffle(uint64_t x);
int ascending(const void *a, const void *b); /* doubles, for qsort */
void sleep_until(double when);
rd_kafka_t *producer(const char *broker, const char *linger, const char *batch, const char *timeout);
rd_kafka_t *assigned(const char *broker, const char *name, int partitions, const char *partition_bytes);

int end_to_end(const char *broker, const char *name, int partitions, size_t size, long count, double rate);
int gets_of(const char *address, const char *topic, long count, int threads);

/* `load gets`: asks jangbu's HTTP port for random keys, over connections that send one request after the other. */
#include "load.h"

#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

struct asker {
        pthread_t thread;
        const char *address, *topic;
        long count, failed;
        uint64_t seed;
        double *took;
};

static int connection(const char *address) {
        char host[256];
        snprintf(host, sizeof host, "%s", address);
        char *port = strrchr(host, ':');
        if (!port)
                die(address, "no port");
        *port++ = 0;
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
        if (getaddrinfo(host, port, &hints, &found))
                die(address, "not found");
        int fd = socket(found->ai_family, SOCK_STREAM, 0), one = 1;
        if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen))
                die(address, "cannot connect");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        freeaddrinfo(found);
        return fd;
}

/* One request after the other over one connection. */
static void *ask(void *of) {
        struct asker *a = of;
        int fd = connection(a->address);
        char request[1024], answer[65536];
        for (long i = 0; i < a->count; i++) {
                char key[32];
                sprintf(key, KEY_FORMAT, (long)(shuffle(a->seed + i) % keys));
                int n = snprintf(request, sizeof request, "GET /topics/%s/keys/%s HTTP/1.1\r\nHost: x\r\n\r\n", a->topic, key);
                double start = now();
                if (write(fd, request, n) != n)
                        die("write", "the connection ended");
                size_t got = 0, need = 0;
                while (!need || got < need) {
                        ssize_t r = read(fd, answer + got, sizeof answer - 1 - got);
                        if (r <= 0)
                                die("read", "the connection ended");
                        got += r;
                        answer[got] = 0;
                        char *end = strstr(answer, "\r\n\r\n"), *length = strcasestr(answer, "content-length:");
                        if (!need && end)
                                need = end + 4 - answer + (length ? atol(length + 15) : 0);
                }
                a->took[i] = now() - start;
                a->failed += strncmp(answer, "HTTP/1.1 200", 12) != 0;
        }
        close(fd);
        return NULL;
}

int gets_of(const char *address, const char *topic, long count, int threads) {
        struct asker *askers = calloc(threads, sizeof *askers);
        double *took = malloc(sizeof(double) * count), start = now(), cpu_start = cpu();
        long each = count / threads, bad = 0;
        for (int t = 0; t < threads; t++) {
                askers[t] = (struct asker){.address = address, .topic = topic, .count = each, .seed = (uint64_t)t << 40, .took = took + t * each};
                pthread_create(&askers[t].thread, NULL, ask, &askers[t]);
        }
        for (int t = 0; t < threads; t++) {
                pthread_join(askers[t].thread, NULL);
                bad += askers[t].failed;
        }
        double seconds = now() - start;
        qsort(took, each * threads, sizeof(double), ascending);
#define GOT(q) (took[(long)(each * threads * (q))] * 1e3)
        printf("{\"seconds\": %.3f, \"gets_per_s\": %.0f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"p999_ms\": %.3f, "
               "\"failed\": %ld, \"client_cpu_s\": %.3f}\n",
               seconds, each * threads / seconds, GOT(0.5), GOT(0.99), GOT(0.999), bad, cpu() - cpu_start);
        return bad != 0;
}

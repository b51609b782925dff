/* Lists of tasks between threads. */
#include <time.h>

#include "inner.h"

void queue_init(Queue *q)
{
    *q = (Queue){0};
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->cond, NULL);
}

void queue_destroy(Queue *q)
{
    pthread_cond_destroy(&q->cond);
    pthread_mutex_destroy(&q->lock);
}

void queue_put(Queue *q, Task *t)
{
    t->next = NULL;
    pthread_mutex_lock(&q->lock);
    if (q->tail) q->tail->next = t;
    else q->head = t;
    q->tail = t;
    q->n++;
    pthread_cond_signal(&q->cond);
    pthread_mutex_unlock(&q->lock);
}

Task *queue_wait(Queue *q)
{
    pthread_mutex_lock(&q->lock);
    while (!q->head && !q->stop) pthread_cond_wait(&q->cond, &q->lock);
    Task *t = q->stop ? NULL : q->head;
    if (t) {
        q->head = t->next;
        if (!q->head) q->tail = NULL;
        q->n--;
        t->next = NULL;
    }
    pthread_mutex_unlock(&q->lock);
    return t;
}

bool queue_wait_any(Queue *q, double seconds)
{
    double          end = time_unix() + seconds;
    struct timespec t = {.tv_sec = (time_t)end, .tv_nsec = (long)((end - (double)(time_t)end) * 1e9)};
    pthread_mutex_lock(&q->lock);
    while (!q->head && !q->stop)
        if (seconds < 0) pthread_cond_wait(&q->cond, &q->lock);
        else if (pthread_cond_timedwait(&q->cond, &q->lock, &t)) break;
    bool any = q->head || q->stop;
    pthread_mutex_unlock(&q->lock);
    return any;
}

Task *queue_take_all(Queue *q)
{
    pthread_mutex_lock(&q->lock);
    Task *t = q->head;
    q->head = q->tail = NULL;
    q->n = 0;
    pthread_mutex_unlock(&q->lock);
    return t;
}

void queue_stop(Queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->stop = true;
    pthread_cond_broadcast(&q->cond);
    pthread_mutex_unlock(&q->lock);
}

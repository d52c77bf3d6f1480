#include "pool.h"

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace fp {
namespace {

// About 20 us each: longer than a phase lasts, shorter than what a sleeping thread costs to wake.
constexpr int SPINS_IN_A_CALL = 2000;
constexpr int SPINS_AFTER_A_CALL = 2000;

void breathe() {
#if defined(__x86_64__) || defined(__i386__)
    _mm_pause();
#else
    std::this_thread::yield();
#endif
}

template <class T> void wait_while(std::atomic<T> &what, T old, int spins) {
    for (int i = 0; i < spins; i++) {
        if (what.load(std::memory_order_acquire) != old) return;
        breathe();
    }
    while (what.load(std::memory_order_acquire) == old) what.wait(old, std::memory_order_acquire);
}

}  // namespace

Pool::Pool(int most) {
    for (int thread = 1; thread < most; thread++) workers_.emplace_back([this, thread] { live(thread); });
}

Pool::~Pool() {
    ending_.store(true, std::memory_order_release);
    call_.fetch_add(1, std::memory_order_release);
    call_.notify_all();
    for (auto &worker : workers_) worker.join();
}

void Pool::run(int threads, const std::function<void(int)> &work) {
    threads_ = threads < 1 ? 1 : threads > most() ? most() : threads;
    next_.store(0, std::memory_order_relaxed);
    if (threads_ == 1) {
        work(0);
        return;
    }
    work_ = &work;
    busy_.store(most() - 1, std::memory_order_relaxed);
    call_.fetch_add(1, std::memory_order_release);
    call_.notify_all();
    work(0);
    for (int left = busy_.load(std::memory_order_acquire); left; left = busy_.load(std::memory_order_acquire))
        wait_while(busy_, left, SPINS_IN_A_CALL);
}

void Pool::live(int thread) {
    uint32_t seen = 0;
    for (;;) {
        wait_while(call_, seen, SPINS_AFTER_A_CALL);
        seen = call_.load(std::memory_order_acquire);
        if (ending_.load(std::memory_order_acquire)) return;
        if (thread < threads_) (*work_)(thread);
        if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) busy_.notify_one();
    }
}

void Pool::meet() {
    if (threads_ == 1) {
        next_.store(0, std::memory_order_relaxed);
        return;
    }
    const uint32_t phase = phase_.load(std::memory_order_acquire);
    if (met_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
        met_.store(0, std::memory_order_relaxed);
        next_.store(0, std::memory_order_relaxed);
        phase_.store(phase + 1, std::memory_order_release);
        phase_.notify_all();
    } else {
        wait_while(phase_, phase, SPINS_IN_A_CALL);
    }
}

}  // namespace fp

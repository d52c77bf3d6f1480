// Threads that work in step. They spin for some microseconds between two phases and sleep between two calls.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace fp {

class Pool {
  public:
    explicit Pool(int most);
    ~Pool();

    // Run `work(thread)` on `threads` threads, the caller being thread 0; returns when all have ended.
    void run(int threads, const std::function<void(int)> &work);

    // All threads of the running call meet here; the next phase's items then begin at 0.
    void meet();

    // The next item of a phase, or one at `count` or beyond when there is none.
    int take(int step) { return next_.fetch_add(step, std::memory_order_relaxed); }

    int threads() const { return threads_; }
    int most() const { return static_cast<int>(workers_.size()) + 1; }

  private:
    void live(int thread);

    std::vector<std::thread> workers_;
    const std::function<void(int)> *work_ = nullptr;
    int threads_ = 1;
    alignas(64) std::atomic<int> next_{0};
    alignas(64) std::atomic<int> met_{0};
    alignas(64) std::atomic<uint32_t> phase_{0};
    alignas(64) std::atomic<uint32_t> call_{0};
    alignas(64) std::atomic<int> busy_{0};
    std::atomic<bool> ending_{false};
};

}  // namespace fp

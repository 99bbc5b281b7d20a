// XLA's thread pool as handlers see it, of threads of our own: for `uov::on_pool` without XLA.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "xla/ffi/api/ffi.h"

class Pool {
 public:
  explicit Pool(int64_t threads) {
    api_.XLA_FFI_ThreadPool_Schedule = [](XLA_FFI_ThreadPool_Schedule_Args* call) {
      of(call->ctx).push({call->task, call->data});
      return static_cast<XLA_FFI_Error*>(nullptr);
    };
    api_.XLA_FFI_ThreadPool_NumThreads = [](XLA_FFI_ThreadPool_NumThreads_Args* call) {
      *call->num_threads = static_cast<int64_t>(of(call->ctx).threads_.size());
      return static_cast<XLA_FFI_Error*>(nullptr);
    };
    for (int64_t i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
  }
  ~Pool() {
    push({nullptr, nullptr});
    for (std::thread& thread : threads_) thread.join();
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // What a handler gets.
  xla::ffi::ThreadPool handle() {
    auto* context = reinterpret_cast<XLA_FFI_ExecutionContext*>(this);
    return *xla::ffi::CtxDecoding<xla::ffi::ThreadPool>::Decode(&api_, context, diagnostic_);
  }

 private:
  struct Task {
    XLA_FFI_Task* run;
    void* data;
  };

  static Pool& of(XLA_FFI_ExecutionContext* context) { return *reinterpret_cast<Pool*>(context); }

  void push(Task task) {
    std::lock_guard<std::mutex> lock(mutex_);
    waiting_.push_back(task);
    come_.notify_all();
  }

  // Until there is a task without a function, which stays for the others.
  void work() {
    while (true) {
      Task task;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        come_.wait(lock, [this] { return !waiting_.empty(); });
        task = waiting_.front();
        if (task.run == nullptr) return;
        waiting_.pop_front();
      }
      task.run(task.data);
    }
  }

  XLA_FFI_Api api_{};
  xla::ffi::DiagnosticEngine diagnostic_;
  std::mutex mutex_;
  std::condition_variable come_;
  std::deque<Task> waiting_;
  std::vector<std::thread> threads_;
};

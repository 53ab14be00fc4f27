// Named ranges of the host's work, for a timeline (nsys profile): NVTX in a CUDA build, where a
// range costs a few nanoseconds while no profiler listens, and nothing in a CPU build. An observer
// hears of them in either.
#pragma once

namespace lacuna {

// Told of the ranges that this thread begins, while it lives. One at a time.
class ProfileObserver {
 public:
  ProfileObserver() { Current() = this; }
  virtual ~ProfileObserver() { Current() = nullptr; }
  ProfileObserver(const ProfileObserver&) = delete;
  ProfileObserver& operator=(const ProfileObserver&) = delete;

  virtual void RangeBegins(const char* name) = 0;

  // Of this thread; null where there is none.
  static ProfileObserver*& Current() {
    thread_local ProfileObserver* current = nullptr;
    return current;
  }
};

// From construction to destruction; ranges of a thread nest.
class ProfileRange {
 public:
  explicit ProfileRange(const char* name) {
    if (ProfileObserver* observer = ProfileObserver::Current()) observer->RangeBegins(name);
#ifdef LACUNA_WITH_CUDA
    Push(name);
#endif
  }
  ~ProfileRange() {
#ifdef LACUNA_WITH_CUDA
    Pop();
#endif
  }
  ProfileRange(const ProfileRange&) = delete;
  ProfileRange& operator=(const ProfileRange&) = delete;

 private:
  static void Push(const char* name);
  static void Pop();
};

// A range of a part of the model, as "layer 3 attention". The tape remembers it with the nodes that
// are recorded within, so that their backward stands under the same name. `name` must outlive those
// tapes.
class ModuleRange {
 public:
  explicit ModuleRange(const char* name) : range_(name), before_(Current()) { Current() = name; }
  ~ModuleRange() { Current() = before_; }
  ModuleRange(const ModuleRange&) = delete;
  ModuleRange& operator=(const ModuleRange&) = delete;

  // The innermost of this thread; null outside of all.
  static const char*& Current() {
    thread_local const char* current = nullptr;
    return current;
  }

 private:
  ProfileRange range_;
  const char* before_;
};

}  // namespace lacuna

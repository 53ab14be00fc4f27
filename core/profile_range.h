// Named ranges of the host's work, for a timeline (nsys profile): NVTX in a CUDA build, where a
// range costs a few nanoseconds while no profiler listens, and nothing in a CPU build.
#pragma once

namespace lacuna {

// From construction to destruction; ranges of a thread nest.
class ProfileRange {
 public:
#ifdef LACUNA_WITH_CUDA
  explicit ProfileRange(const char* name) {
    Push(name);
  }
  ~ProfileRange() {
    Pop();
  }
#else
  explicit ProfileRange(const char*) {}
  ~ProfileRange() {}
#endif
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

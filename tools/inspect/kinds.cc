#include "tools/inspect/batch_view.h"
#include "tools/inspect/chat_view.h"
#include "tools/inspect/kind.h"
#include "tools/inspect/megatron_view.h"
#include "tools/inspect/safetensors_view.h"
#include "tools/inspect/shard_view.h"

namespace lacuna::tools {

std::vector<std::unique_ptr<InspectKind>> MakeInspectKinds() {
  std::vector<std::unique_ptr<InspectKind>> kinds;
  kinds.push_back(std::make_unique<ShardView>());
  kinds.push_back(std::make_unique<BatchView>());
  kinds.push_back(std::make_unique<ChatView>());
  kinds.push_back(std::make_unique<MegatronView>());
  kinds.push_back(std::make_unique<SafetensorsView>());
  return kinds;
}

}  // namespace lacuna::tools

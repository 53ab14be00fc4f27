// Values that are written by name, and those with a notation of their own.
#include "recipes/schema/recipe_keys.h"

namespace lacuna {

template <>
const EnumNames<AttentionKind>& NamesOf<AttentionKind>() {
  static const EnumNames<AttentionKind> names = {{"full", AttentionKind::kFull},
                                                 {"nsa", AttentionKind::kNsa}};
  return names;
}
template <>
const EnumNames<PhiKind>& NamesOf<PhiKind>() {
  static const EnumNames<PhiKind> names = {
      {"mlp", PhiKind::kMlp}, {"linear", PhiKind::kLinear}, {"mean", PhiKind::kMean}};
  return names;
}
template <>
const EnumNames<PhiStart>& NamesOf<PhiStart>() {
  static const EnumNames<PhiStart> names = {
      {"random", PhiStart::kRandom}, {"mean_keys", PhiStart::kMeanKeys}, {"mean", PhiStart::kMean}};
  return names;
}
template <>
const EnumNames<PhiActivation>& NamesOf<PhiActivation>() {
  static const EnumNames<PhiActivation> names = {{"silu", PhiActivation::kSilu},
                                                 {"gelu_tanh", PhiActivation::kGeluTanh}};
  return names;
}
template <>
const EnumNames<RouterKind>& NamesOf<RouterKind>() {
  static const EnumNames<RouterKind> names = {{"sigmoid", RouterKind::kSigmoid},
                                              {"softmax", RouterKind::kSoftmax}};
  return names;
}
template <>
const EnumNames<AuxLossScope>& NamesOf<AuxLossScope>() {
  static const EnumNames<AuxLossScope> names = {{"none", AuxLossScope::kNone},
                                                {"micro_batch", AuxLossScope::kMicroBatch},
                                                {"sequence", AuxLossScope::kSequence},
                                                {"global_batch", AuxLossScope::kGlobalBatch}};
  return names;
}
template <>
const EnumNames<Packing>& NamesOf<Packing>() {
  static const EnumNames<Packing> names = {{"concat", Packing::kConcat},
                                           {"best_fit", Packing::kBestFit},
                                           {"one_document", Packing::kOneDocument},
                                           {"whole", Packing::kWhole}};
  return names;
}
template <>
const EnumNames<ChatTemplateKind>& NamesOf<ChatTemplateKind>() {
  return NamesOfChatTemplates();
}
template <>
const EnumNames<InitLoad>& NamesOf<InitLoad>() {
  static const EnumNames<InitLoad> names = {
      {"weights", InitLoad::kWeights}, {"weights_and_optimizer", InitLoad::kWeightsAndOptimizer}};
  return names;
}
template <>
const EnumNames<DeviceChoice>& NamesOf<DeviceChoice>() {
  static const EnumNames<DeviceChoice> names = {
      {"auto", DeviceChoice::kAuto}, {"cpu", DeviceChoice::kCpu}, {"cuda", DeviceChoice::kCuda}};
  return names;
}
template <>
const EnumNames<Schedule>& NamesOf<Schedule>() {
  static const EnumNames<Schedule> names = {
      {"cosine", Schedule::kCosine}, {"wsd", Schedule::kWsd}, {"constant", Schedule::kConstant}};
  return names;
}
template <>
const EnumNames<MomentType>& NamesOf<MomentType>() {
  static const EnumNames<MomentType> names = {{"f32", MomentType::kF32},
                                              {"bf16", MomentType::kBF16}};
  return names;
}
template <>
const EnumNames<RecomputeKeeps>& NamesOf<RecomputeKeeps>() {
  static const EnumNames<RecomputeKeeps> names = {{"none", RecomputeKeeps::kNothing},
                                                  {"attention", RecomputeKeeps::kAttention}};
  return names;
}
template <>
const EnumNames<DType>& NamesOf<DType>() {
  static const EnumNames<DType> names = {
      {"f32", DType::kF32}, {"f64", DType::kF64}, {"bf16", DType::kBF16}};
  return names;
}

void ReadValue(const YamlNode& node, const std::string& path, RecomputePolicy* value,
               ReadReport* report) {
  RecomputePolicy policy{.keeps = value->keeps};  // a key of its own
  const auto wrong = [&](const YamlNode& at) {
    Expected(at, path, "none, block, or a list of attention, feed_forward", report);
  };
  if (node.kind == YamlNode::Kind::kScalar) {
    policy.block = node.text == "block";
    if (!policy.block && node.text != "none") return wrong(node);
  } else if (node.kind == YamlNode::Kind::kList) {
    for (const YamlNode& item : node.items) {
      bool* part = item.text == "attention"      ? &policy.attention
                   : item.text == "feed_forward" ? &policy.feed_forward
                                                 : nullptr;
      if (part == nullptr || *part) return wrong(item);
      *part = true;
    }
  } else {
    return wrong(node);
  }
  *value = policy;
}

std::string ValueText(const RecomputePolicy& value) {
  if (value.block) return "block";
  if (value.attention && value.feed_forward) return "[attention, feed_forward]";
  return value.attention ? "[attention]" : value.feed_forward ? "[feed_forward]" : "none";
}

std::string TypeText(const RecomputePolicy&) {
  return "none | block | [attention, feed_forward]";
}

std::string Describe(const RecomputePolicy& value) {
  return ValueText(value) + (value.keeps_attention() ? ", attention's outputs kept" : "");
}

}  // namespace lacuna

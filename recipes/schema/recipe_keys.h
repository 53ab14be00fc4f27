// The tables of every section's keys (recipes/schema/keys.h) and the values that are written in a
// way of their own.
#pragma once

#include "recipes/schema/keys.h"
#include "recipes/schema/recipe.h"

namespace lacuna {

template <>
inline constexpr bool kIsSection<RunConfig> = true;
template <>
inline constexpr bool kIsSection<InitConfig> = true;
template <>
inline constexpr bool kIsSection<BatchPhase> = true;
template <>
inline constexpr bool kIsSection<YarnConfig> = true;
template <>
inline constexpr bool kIsSection<ModelConfig> = true;
template <>
inline constexpr bool kIsSection<NsaConfig> = true;
template <>
inline constexpr bool kIsSection<MoeConfig> = true;
template <>
inline constexpr bool kIsSection<SourceConfig> = true;
template <>
inline constexpr bool kIsSection<ValidationConfig> = true;
template <>
inline constexpr bool kIsSection<DataConfig> = true;
template <>
inline constexpr bool kIsSection<OptimizerConfig> = true;
template <>
inline constexpr bool kIsSection<TrainConfig> = true;
template <>
inline constexpr bool kIsSection<ParallelConfig> = true;
template <>
inline constexpr bool kIsSection<Recipe> = true;

template <>
const std::vector<Key<RunConfig>>& KeysOf<RunConfig>();
template <>
const std::vector<Key<InitConfig>>& KeysOf<InitConfig>();
template <>
const std::vector<Key<BatchPhase>>& KeysOf<BatchPhase>();
template <>
const std::vector<Key<YarnConfig>>& KeysOf<YarnConfig>();
template <>
const std::vector<Key<ModelConfig>>& KeysOf<ModelConfig>();
template <>
const std::vector<Key<NsaConfig>>& KeysOf<NsaConfig>();
template <>
const std::vector<Key<MoeConfig>>& KeysOf<MoeConfig>();
template <>
const std::vector<Key<SourceConfig>>& KeysOf<SourceConfig>();
template <>
const std::vector<Key<ValidationConfig>>& KeysOf<ValidationConfig>();
template <>
const std::vector<Key<DataConfig>>& KeysOf<DataConfig>();
template <>
const std::vector<Key<OptimizerConfig>>& KeysOf<OptimizerConfig>();
template <>
const std::vector<Key<TrainConfig>>& KeysOf<TrainConfig>();
template <>
const std::vector<Key<ParallelConfig>>& KeysOf<ParallelConfig>();
template <>
const std::vector<Key<Recipe>>& KeysOf<Recipe>();

template <>
const EnumNames<AttentionKind>& NamesOf<AttentionKind>();
template <>
const EnumNames<PhiKind>& NamesOf<PhiKind>();
template <>
const EnumNames<PhiActivation>& NamesOf<PhiActivation>();
template <>
const EnumNames<PhiStart>& NamesOf<PhiStart>();
template <>
const EnumNames<RouterKind>& NamesOf<RouterKind>();
template <>
const EnumNames<AuxLossScope>& NamesOf<AuxLossScope>();
template <>
const EnumNames<Packing>& NamesOf<Packing>();
template <>
const EnumNames<InitLoad>& NamesOf<InitLoad>();
template <>
const EnumNames<DeviceChoice>& NamesOf<DeviceChoice>();
template <>
const EnumNames<ChatTemplateKind>& NamesOf<ChatTemplateKind>();
template <>
const EnumNames<Schedule>& NamesOf<Schedule>();
template <>
const EnumNames<MomentType>& NamesOf<MomentType>();
template <>
const EnumNames<RecomputeKeeps>& NamesOf<RecomputeKeeps>();
template <>
const EnumNames<DType>& NamesOf<DType>();  // those a model can be trained in

// none | block | a list of attention, feed_forward.
void ReadValue(const YamlNode& node, const std::string& path, RecomputePolicy* value,
               ReadReport* report);
std::string ValueText(const RecomputePolicy& value);
std::string TypeText(const RecomputePolicy& value);
// With what is kept all the same: "block", "block, attention's outputs kept".
std::string Describe(const RecomputePolicy& value);

}  // namespace lacuna

#include "core/ops/cuda/attention_cudnn_plan.h"

#include <cudnn_frontend.h>

#include <exception>
#include <unordered_map>

#include "core/cuda/dnn.h"
#include "core/error.h"

namespace lacuna::cuda {
namespace {

namespace fe = cudnn_frontend;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;

// Names of the tensors of a graph.
enum Uid : int64_t {
  kQ = 1,
  kK,
  kV,
  kO,
  kLse,
  kDO,
  kDQ,
  kDK,
  kDV,
  kQueryLengths,
  kKeyLengths,
  kQOffsets,
  kKOffsets,
  kVOffsets,
  kOOffsets,
  kLseOffsets,
};

// cuDNN's tensors are [documents, heads, tokens, width], in any order of memory: ours are rows of
// heads. Packed documents start at offsets (ragged tensors) and are as long as a second table says.
//
// Documents of a run need not be neighbours: the rows from the end of one to the start of the next,
// of documents that other runs do, are what cuDNN calls padding between sequences. cudnn-frontend
// gives the four intermediate tensors of a backward (sum of do * o, dk and dv by query heads, dq
// before it is rounded: softmax_sum, dK_fullhead, dV_fullhead, dQ_accum) the offsets of stats, dk,
// dv and dq once the totals are set, and rows * stride elements of memory: they are indexed as our
// tensors are, so `rows` has to be all rows and not those of the run's documents. That padding is
// left alone is more than cuDNN's documentation says: cuda_cudnn_attention_test holds it to that,
// with results of other runs there.
class GraphBuilder {
 public:
  GraphBuilder(const SdpaShape& shape, fe::graph::Graph& graph) : s_(shape), graph_(graph) {
    graph.set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    if (!packed()) return;
    query_lengths_ = Integers(kQueryLengths, "query_lengths", s_.documents, fe::DataType_t::INT32);
    key_lengths_ = Integers(kKeyLengths, "key_lengths", s_.documents, fe::DataType_t::INT32);
    const auto offsets = [&](Uid uid, const char* name) {
      return Integers(uid, name, s_.documents + 1, fe::DataType_t::INT64);
    };
    q_offsets_ = offsets(kQOffsets, "q_offsets");
    k_offsets_ = offsets(kKOffsets, "k_offsets");
    v_offsets_ = offsets(kVOffsets, "v_offsets");
    o_offsets_ = offsets(kOOffsets, "o_offsets");
    lse_offsets_ = offsets(kLseOffsets, "lse_offsets");
  }

  void Forward() {
    auto options = fe::graph::SDPA_attributes()
                       .set_name("attention_fwd")
                       .set_implementation(fe::AttentionImplementation_t::COMPOSITE)
                       .set_generate_stats(true);
    SetMask(options);
    const auto [o, lse] = graph_.sdpa(Q(kQ, "q"), K(kK, "k"), V(kV, "v"), options);
    DescribeO(o->set_output(true), kO);
    DescribeLse(lse->set_output(true));
  }

  void Backward() {
    auto options = fe::graph::SDPA_backward_attributes()
                       .set_name("attention_bwd")
                       .set_deterministic_algorithm(s_.deterministic);
    SetMask(options);
    // Without these, what cuDNN keeps aside grows with documents * length instead of rows.
    if (packed()) options.set_max_total_seq_len_q(s_.rows).set_max_total_seq_len_kv(s_.rows);
    fe::graph::Tensor_attributes o, d_o, lse;
    DescribeO(o.set_name("o"), kO);
    DescribeO(d_o.set_name("d_o"), kDO);
    DescribeLse(lse.set_name("lse"));
    const auto [dq, dk, dv] =
        graph_.sdpa_backward(Q(kQ, "q"), K(kK, "k"), V(kV, "v"), graph_.tensor(o),
                             graph_.tensor(d_o), graph_.tensor(lse), options);
    DescribeRows(dq->set_output(true), kDQ, s_.heads, s_.row_heads, s_.dk, q_offsets_);
    DescribeRows(dk->set_output(true), kDK, s_.groups, s_.row_groups, s_.dk, k_offsets_);
    DescribeRows(dv->set_output(true), kDV, s_.groups, s_.row_groups, s_.dv, v_offsets_);
  }

 private:
  bool packed() const { return s_.documents > 0; }
  int64_t batch() const { return packed() ? s_.documents : 1; }

  Tensor Integers(Uid uid, const char* name, int64_t count, fe::DataType_t type) {
    return graph_.tensor(fe::graph::Tensor_attributes()
                             .set_name(name)
                             .set_uid(uid)
                             .set_dim({count, 1, 1, 1})
                             .set_stride({1, 1, 1, 1})
                             .set_data_type(type));
  }

  void DescribeRows(fe::graph::Tensor_attributes& tensor, Uid uid, int64_t heads, int64_t row_heads,
                    int64_t width, const Tensor& offsets) const {
    tensor.set_uid(uid)
        .set_data_type(fe::DataType_t::BFLOAT16)
        .set_dim({batch(), heads, s_.length, width})
        .set_stride({s_.length * row_heads * width, width, row_heads * width, 1});
    if (packed()) tensor.set_ragged_offset(offsets);
  }
  void DescribeO(fe::graph::Tensor_attributes& tensor, Uid uid) const {
    DescribeRows(tensor, uid, s_.heads, s_.row_heads, s_.dv, o_offsets_);
  }
  // Of one document by heads, the only order that cuDNN's documentation gives.
  void DescribeLse(fe::graph::Tensor_attributes& tensor) const {
    tensor.set_uid(kLse)
        .set_data_type(fe::DataType_t::FLOAT)
        .set_dim({batch(), s_.heads, s_.length, 1});
    if (packed()) {
      tensor.set_stride({s_.length * s_.row_heads, 1, s_.row_heads, 1})
          .set_ragged_offset(lse_offsets_);
    } else {
      tensor.set_stride({s_.length * s_.heads, s_.length, 1, 1});
    }
  }

  Tensor Rows(Uid uid, const char* name, int64_t heads, int64_t row_heads, int64_t width,
              const Tensor& offsets) {
    fe::graph::Tensor_attributes tensor;
    DescribeRows(tensor.set_name(name), uid, heads, row_heads, width, offsets);
    return graph_.tensor(tensor);
  }
  Tensor Q(Uid uid, const char* name) {
    return Rows(uid, name, s_.heads, s_.row_heads, s_.dk, q_offsets_);
  }
  Tensor K(Uid uid, const char* name) {
    return Rows(uid, name, s_.groups, s_.row_groups, s_.dk, k_offsets_);
  }
  Tensor V(Uid uid, const char* name) {
    return Rows(uid, name, s_.groups, s_.row_groups, s_.dv, v_offsets_);
  }

  template <class Options>
  void SetMask(Options& options) const {
    options.set_attn_scale(s_.scale)
        .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
        .set_diagonal_band_right_bound(0);
    // Keys j of query i with j + window > i.
    if (s_.window > 0) options.set_diagonal_band_left_bound(static_cast<int>(s_.window));
    if (packed())
      options.set_padding_mask(true).set_seq_len_q(query_lengths_).set_seq_len_kv(key_lengths_);
  }

  const SdpaShape& s_;
  fe::graph::Graph& graph_;
  Tensor query_lengths_, key_lengths_, q_offsets_, k_offsets_, v_offsets_, o_offsets_, lse_offsets_;
};

}  // namespace

struct SdpaPlan::Graph {
  fe::graph::Graph graph;
};

SdpaPlan::SdpaPlan() = default;
SdpaPlan::~SdpaPlan() = default;

std::unique_ptr<SdpaPlan> SdpaPlan::Make(const SdpaShape& shape, Stream stream, size_t thread,
                                         std::string* failure) {
  std::unique_ptr<SdpaPlan> plan(new SdpaPlan);
  plan->graph_ = std::make_unique<Graph>();
  fe::graph::Graph& graph = plan->graph_->graph;
  try {
    GraphBuilder builder(shape, graph);
    shape.backward ? builder.Backward() : builder.Forward();
    auto status = graph.build(DnnHandle(stream, thread), {fe::HeurMode_t::A});
    if (status.is_good()) status = graph.get_workspace_size(plan->workspace_bytes_);
    if (status.is_good()) return plan;
    *failure = status.get_message();
  } catch (const std::exception& error) {
    *failure = error.what();
  }
  return nullptr;
}

void SdpaPlan::Run(const SdpaTensors& t, const RaggedLayout* documents, void* workspace,
                   Stream stream) const {
  std::unordered_map<int64_t, void*> pointers = {
      {kQ, t.q}, {kK, t.k}, {kV, t.v}, {kO, t.o}, {kLse, t.lse}};
  if (t.dq != nullptr) pointers.insert({{kDO, t.d_o}, {kDQ, t.dq}, {kDK, t.dk}, {kDV, t.dv}});
  if (documents != nullptr) {
    pointers.insert({{kQueryLengths, documents->lengths},
                     {kKeyLengths, documents->lengths},
                     {kQOffsets, documents->q},
                     {kKOffsets, documents->k},
                     {kVOffsets, documents->v},
                     {kOOffsets, documents->o},
                     {kLseOffsets, documents->lse}});
  }
  auto status = graph_->graph.execute(DnnHandle(stream), pointers, workspace);
  LACUNA_CHECK(status.is_good(), "attention: cuDNN {}: {}", cudnnGetVersion(),
               status.get_message());
}

}  // namespace lacuna::cuda

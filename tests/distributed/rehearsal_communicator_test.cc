// What a rank without peers is told, and what is recorded of it.
#include "distributed/rehearsal_communicator.h"

#include <gtest/gtest.h>

namespace lacuna {
namespace {

struct Recorder : CollectiveRecorder {
  int64_t Launched(const Collective& collective) override {
    launched.push_back(collective);
    return static_cast<int64_t>(launched.size()) - 1;
  }
  void Copied(int64_t number) override { copied.push_back(number); }
  void Waited(int64_t number) override { waited.push_back(number); }
  std::vector<Collective> launched;
  std::vector<int64_t> copied, waited;
};

class RehearsalCommunicatorTest : public testing::Test {
 protected:
  Recorder recorder_;
  std::unique_ptr<Communicator> comm_ =
      MakeRehearsalCommunicator({.rank = 1, .size = 4, .recorder = &recorder_});
};

Tensor Numbers(int64_t n) {
  std::vector<float> values;
  for (int64_t i = 0; i < n; ++i) values.push_back(static_cast<float>(i));
  return Tensor::FromVector(values, {n});
}

TEST_F(RehearsalCommunicatorTest, SumsKeepTheRanksOwnValues) {
  Tensor x = Numbers(8), share = Numbers(2);
  Request request = comm_->AllReduceSum(x);
  EXPECT_TRUE(recorder_.waited.empty());
  request.Wait();
  request.Wait();  // done
  EXPECT_EQ(recorder_.waited, std::vector<int64_t>{0});
  EXPECT_EQ(x.ToDoubles(), Numbers(8).ToDoubles());
  comm_->ReduceScatterSum(x, share).Wait();
  EXPECT_EQ(share.ToDoubles(), (std::vector<double>{2, 3}));
  comm_->ReduceScatterSum(x, x.View(2, {2})).Wait();
  EXPECT_EQ(x.ToDoubles(), Numbers(8).ToDoubles());
  EXPECT_DOUBLE_EQ(recorder_.launched[0].link_bytes, 2 * 32 * 3 / 4.0);
  EXPECT_DOUBLE_EQ(recorder_.launched[1].link_bytes, 32 * 3 / 4.0);
  EXPECT_EQ(recorder_.copied, (std::vector<int64_t>{0, 1, 2}));
}

TEST_F(RehearsalCommunicatorTest, GatheredPartsOfOthersStay) {
  Tensor both = Numbers(10);
  const Tensor all = both.View(2, {8});
  comm_->AllGatherInto(both.View(0, {2}), all).Wait();
  EXPECT_EQ(all.ToDoubles(), (std::vector<double>{2, 3, 0, 1, 6, 7, 8, 9}));
}

TEST_F(RehearsalCommunicatorTest, NewMemoryIsGivenThisRanksPart) {
  Tensor all = Numbers(8);
  comm_->AllGatherInto(Tensor::FromVector(std::vector<float>{20, 30}, {2}), all).Wait();
  EXPECT_EQ(all.ToDoubles(), (std::vector<double>{20, 30, 20, 30, 20, 30, 20, 30}));
}

TEST_F(RehearsalCommunicatorTest, PeersSayWhatIsGathered) {
  struct Sevens : AbsentPeers {
    bool Gather(const Tensor& in, Tensor& out, int rank) override {
      EXPECT_EQ(rank, 1);
      for (int64_t i = 0; i < out.numel(); ++i)
        out.mutable_data<float>()[i] = i / 2 == rank ? in.data<float>()[i % 2] : 7;
      return true;
    }
  } sevens;
  comm_ =
      MakeRehearsalCommunicator({.rank = 1, .size = 4, .recorder = &recorder_, .peers = &sevens});
  Tensor all = Numbers(8);
  comm_->AllGatherInto(Tensor::FromVector(std::vector<float>{20, 30}, {2}), all).Wait();
  EXPECT_EQ(all.ToDoubles(), (std::vector<double>{7, 7, 20, 30, 7, 7, 7, 7}));
  EXPECT_DOUBLE_EQ(recorder_.launched[0].link_bytes, 32 * 3 / 4.0);
  Tensor out = Tensor::Zeros({4}, DType::kF32);
  comm_->AllToAllRows(Numbers(4), {1, 1, 1, 1}, out, {1, 1, 1, 1}).Wait();
  EXPECT_EQ(out.ToDoubles(), Numbers(4).ToDoubles());
}

TEST_F(RehearsalCommunicatorTest, SentRowsStandForReceivedOnes) {
  const Tensor in = Numbers(6).Reshape({3, 2});
  Tensor out = Tensor::Zeros({5, 2}, DType::kF32);
  comm_->AllToAllRows(in, {1, 1, 0, 1}, out, {2, 0, 3, 0}).Wait();
  EXPECT_EQ(out.ToDoubles(), (std::vector<double>{0, 1, 2, 3, 4, 5, 0, 1, 2, 3}));
  EXPECT_DOUBLE_EQ(recorder_.launched[0].link_bytes, 5 * 8);  // to others 2 rows, from them 5
  EXPECT_THROW(comm_->AllToAllRows(in, {1, 1, 0, 0}, out, {2, 0, 3, 0}), Error);
  EXPECT_THROW(comm_->AllToAllRows(in, {1, 1, 0, 1}, out, {2, 0, 2, 0}), Error);
  // In two rounds: to others 1 + 1 rows, from them 1 + 2.
  comm_->AllToAllRows(in, {1, 0, 0, 0, 1, 0, 0, 1}, out, {1, 1, 0, 0, 0, 1, 2, 0}).Wait();
  EXPECT_DOUBLE_EQ(recorder_.launched[1].link_bytes, 3 * 8);
  const Tensor none = Tensor::Zeros({0, 2}, DType::kF32);
  comm_->AllToAllRows(none, {0, 0, 0, 0}, out, {2, 0, 3, 0}).Wait();
  EXPECT_EQ(out.ToDoubles(), std::vector<double>(10, 0.0));
}

TEST_F(RehearsalCommunicatorTest, TextIsEverybodys) {
  std::vector<std::string> all;
  comm_->AllGather("here", &all).Wait();
  EXPECT_EQ(all, std::vector<std::string>(4, "here"));
  EXPECT_THROW(comm_->Split(0), CommunicationError);
}

}  // namespace
}  // namespace lacuna

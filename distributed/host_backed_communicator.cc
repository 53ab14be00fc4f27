#include "distributed/host_backed_communicator.h"

namespace lacuna {

Request HostBackedCommunicator::AllReduceSum(Tensor tensor) {
  if (Communicator* direct = Direct(tensor)) return direct->AllReduceSum(std::move(tensor));
  CheckSum("all_reduce_sum", tensor);
  return AllReduceOnDevice(std::move(tensor));
}

Request HostBackedCommunicator::ReduceScatterSum(Tensor in, Tensor out) {
  if (Communicator* direct = Direct(in))
    return direct->ReduceScatterSum(std::move(in), std::move(out));
  CheckSum("reduce_scatter_sum", in);
  CheckParts("reduce_scatter_sum", out, in, size());
  return ReduceScatterOnDevice(std::move(in), std::move(out));
}

Request HostBackedCommunicator::AllGatherInto(Tensor in, Tensor out) {
  if (Communicator* direct = Direct(in))
    return direct->AllGatherInto(std::move(in), std::move(out));
  CheckParts("all_gather_into", in, out, size());
  return AllGatherOnDevice(std::move(in), std::move(out));
}

Request HostBackedCommunicator::AllToAllRows(Tensor in, std::vector<int64_t> send_rows, Tensor out,
                                             std::vector<int64_t> receive_rows) {
  if (Communicator* direct = Direct(in)) {
    return direct->AllToAllRows(std::move(in), std::move(send_rows), std::move(out),
                                std::move(receive_rows));
  }
  RowParts parts = CheckRows(in, send_rows, out, receive_rows, rank(), size());
  return AllToAllOnDevice(std::move(in), std::move(out),
                          {std::move(send_rows), std::move(receive_rows), std::move(parts)});
}

Request HostBackedCommunicator::Broadcast(Tensor tensor, int root) {
  if (Communicator* direct = Direct(tensor)) return direct->Broadcast(std::move(tensor), root);
  LACUNA_CHECK(root >= 0 && root < size(), "broadcast: root {} of {} ranks", root, size());
  return BroadcastOnDevice(std::move(tensor), root);
}

}  // namespace lacuna

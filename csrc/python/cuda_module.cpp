// The extension module of the CUDA backend, and of its emulation: custom-call capsules, the sizes
// of their workspaces and what kernels reported.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/fault_memory.h"
#include "cuda/gather_gemm.h"
#include "cuda/gather_gemm_dw.h"
#include "cuda/handlers_list.h"
#include "cuda/tiles.h"
#ifdef UOV_EMULATED
#include "cuda/emulation/grid.h"
#endif

// setup.py says for what it was compiled.
#ifndef UOV_CUDA_BUILT_FOR
#define UOV_CUDA_BUILT_FOR "emulation"
#endif
#ifndef UOV_CUDA_MODULE
#define UOV_CUDA_MODULE _engine_cuda
#endif

namespace py = pybind11;

namespace {

py::dict handlers() {
  py::dict result;
#define UOV_ADD_HANDLER(name) \
  result["uov_cuda_" #name] = py::capsule(reinterpret_cast<void*>(uov_##name##_cuda));
  UOV_FOR_EACH_CUDA_HANDLER(UOV_ADD_HANDLER)
#undef UOV_ADD_HANDLER
  return result;
}

int64_t workspace_bytes(const std::string& op, const std::vector<int64_t>& sizes) {
  if (std::any_of(sizes.begin(), sizes.end(), [](int64_t size) { return size < 0; })) {
    throw std::invalid_argument("sizes must not be negative");
  }
#define UOV_ASK(name) \
  if (op == #name) return uov_##name##_workspace(sizes);
  UOV_FOR_EACH_CUDA_WORKSPACE(UOV_ASK)
#undef UOV_ASK
  throw std::invalid_argument("no op with a workspace is called " + op);
}

// The numbers of those of some tiles that products of a precision can have.
template <int N>
std::vector<int> fitting_tiles(const uov::cuda::Tile (&tiles)[N], int precision) {
  std::vector<int> result;
  for (int tile = 0; tile < N; ++tile) {
    if (uov::cuda::tile_fits(tiles[tile], static_cast<uov::cuda::Precision>(precision))) {
      result.push_back(tile);
    }
  }
  return result;
}

// (precision, architecture, rows, channels in, channels out, tile) of each line.
template <int N>
std::vector<std::vector<int64_t>> lines(const uov::cuda::TileChoice (&table)[N]) {
  std::vector<std::vector<int64_t>> result;
  for (const uov::cuda::TileChoice& line : table) {
    result.push_back({static_cast<int64_t>(line.precision), line.architecture, line.rows,
                      line.channels_in, line.channels_out, line.tile});
  }
  return result;
}

}  // namespace

PYBIND11_MODULE(UOV_CUDA_MODULE, m) {
  m.doc() = "The sparse engine's CUDA backend: XLA custom-call handlers.";
  m.def("handlers", &handlers, "XLA FFI handlers, by custom-call name.");
  m.def("workspace_bytes", &workspace_bytes, py::arg("op"), py::arg("sizes"),
        "Bytes of the workspace, the op's last result, for arguments of these sizes.");
  m.def("fault", &uov::cuda::fault, py::arg("device"),
        "What a kernel on this device reported first: kind, two numbers, 0; zeros if nothing.");
  m.def("clear_fault", &uov::cuda::clear_fault, py::arg("device"));
  m.def(
      "gather_tiles",
      [](int precision) { return fitting_tiles(uov::cuda::kGatherTiles, precision); },
      py::arg("precision"), "The numbers of the tiles that gather_gemm has in a precision.");
  m.def(
      "gradient_tiles",
      [](int precision) { return fitting_tiles(uov::cuda::kGradientTiles, precision); },
      py::arg("precision"), "The same of gather_gemm_dw.");
  m.def("use_gather_tile", &uov::cuda::use_gather_tile, py::arg("tile"),
        "From now on this tile of every gather_gemm, by its number in tiles.h; -1: the table's.");
  m.def("use_gradient_tile", &uov::cuda::use_gradient_tile, py::arg("tile"),
        "The same of gather_gemm_dw.");
  m.def(
      "built_for", [] { return UOV_CUDA_BUILT_FOR; },
      "The architectures and the compiler of this build.");
#ifdef UOV_EMULATED
  m.def(
      "gather_choices", [] { return lines(uov::cuda::kGatherChoices); },
      "The table of tiles: precision, architecture, rows, channels in and out, tile.");
  m.def(
      "gradient_choices", [] { return lines(uov::cuda::kGradientChoices); },
      "The same of gather_gemm_dw.");
  m.def(
      "chosen_gather_tile",
      [](int precision, int architecture, int64_t rows, int64_t in, int64_t out) {
        return uov::cuda::chosen_tile(uov::cuda::kGatherChoices,
                                      static_cast<uov::cuda::Precision>(precision), architecture,
                                      rows, in, out);
      },
      "The tile that the table gives for these.");
  m.def(
      "chosen_gradient_tile",
      [](int precision, int architecture, int64_t rows, int64_t in, int64_t out) {
        return uov::cuda::chosen_tile(uov::cuda::kGradientChoices,
                                      static_cast<uov::cuda::Precision>(precision), architecture,
                                      rows, in, out);
      },
      "The same of gather_gemm_dw.");
  m.def("use_order", &uov::cuda::emulated::use_order, py::arg("seed"),
        "From now on the orders of blocks, warps and lanes that belong to this number.");
#endif
}

// Numpy arrays as the host functions take and give them.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "core/points.h"

namespace uov {

namespace py = pybind11;

using Int32 = py::array_t<int32_t, py::array::c_style>;
using Float32 = py::array_t<float, py::array::c_style>;
using Float64 = py::array_t<double, py::array::c_style>;
// Of float32 too, but rows may lie apart: columns of a wider table.
using PointRows = py::array_t<float, 0>;

inline void require_shape(const py::array& array, const char* name, py::ssize_t columns) {
  if (array.ndim() != 2 || array.shape(1) != columns) {
    throw std::invalid_argument(std::string(name) + " must have shape [N, " +
                                std::to_string(columns) + "]");
  }
}

// The points float32 [N, 3 or more] of an array. Without a copy where the numbers of a point lie
// side by side; else `array` becomes a copy in which they do, such as of the table[:, [2, 0, 1]] of
// numpy.
inline Points points_of(PointRows& array, const char* name = "points") {
  constexpr auto kBytes = static_cast<py::ssize_t>(sizeof(float));
  if (array.ndim() != 2 || array.shape(1) < 3) {
    throw std::invalid_argument(std::string(name) + " must have shape [N, 3 or more]");
  }
  // Numpy gives an array without numbers any strides.
  if (array.size() > 0 && (array.strides(1) != kBytes || array.strides(0) % kBytes)) {
    array = Float32::ensure(array);
    if (!array) throw py::error_already_set();
  }
  return {array.data(), array.shape(0), array.strides(0) / kBytes};
}

inline void require_length(const py::array& array, const char* name, py::ssize_t length) {
  if (array.ndim() != 1 || array.shape(0) != length) {
    throw std::invalid_argument(std::string(name) + " must have shape [" + std::to_string(length) +
                                "]");
  }
}

template <typename T>
py::array_t<T> to_numpy(const std::vector<T>& values, std::vector<py::ssize_t> shape) {
  py::array_t<T> array(std::move(shape));
  if (!values.empty()) std::memcpy(array.mutable_data(), values.data(), sizeof(T) * values.size());
  return array;
}

template <typename T>
py::array_t<T> to_numpy(const std::vector<T>& values) {
  return to_numpy(values, {static_cast<py::ssize_t>(values.size())});
}

// Adds the functions of the input pipeline to the module.
void add_input_functions(py::module_& module);

}  // namespace uov

#pragma once

// Growth per layer of ||dL/dz||^2 in deep vanilla batch norm nets at initialization (Yang et al. 2019, arXiv 1902.08129).
namespace normlab::client::studies {

// Identity activation: (B - 2)/(B - 3). `batch` is at least 4.
double LinearGrowth(int batch);
// ReLU: [(J'(c) + B - 1)/(1 - J(c)) - 1]/(B - 3), c = -1/(B - 1). `batch` is at least 4.
double ReluGrowth(int batch);

}  // namespace normlab::client::studies

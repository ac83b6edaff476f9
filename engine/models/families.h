#pragma once

#include "engine/models/network_builder.h"

#include "normlab/v1/spec.pb.h"

// One builder for each kind of model; `model`: of a valid, resolved spec. Each ends with the layer
// whose output the loss reads. Internal to engine/models.
namespace normlab::engine {

// [linear, normalizer, activation]*, linear "head"; numbered from 1: fc1, bn1, act1, ...
void BuildMlp(const v1::Mlp& model, NetworkBuilder& builder);

// [convolution, normalizer, activation, pooling?]*, then as an mlp. Convolutions, poolings and
// linear layers are numbered within their kinds (conv1, pool1, fc1), normalizers and activations by
// the weight layers before them.
void BuildCnn(const v1::Cnn& model, NetworkBuilder& builder);

// A product of matrices: [linear, normalizer]*, linear "head", none with a bias, but for those of
// weight norm, which sets them.
void BuildDeepLinear(const v1::DeepLinear& model, NetworkBuilder& builder);

// Simonyan and Zisserman 2015, configurations A, B, D and E. Layers are "features.<i>", counted as
// in a torch.nn.Sequential of the layers that there are, so that with batch norm names are
// torchvision's (vgg16_bn); the last is "classifier".
void BuildVgg(const v1::Vgg& model, NetworkBuilder& builder);

// He et al. 2016, section 4.2: names as in the usual CIFAR code, conv1, bn1, layer1.0.conv1, ...,
// layer2.0.shortcut.0 (convolution), layer2.0.shortcut.1 (normalizer), fc. Normalizers of the last
// convolution of a branch and of a shortcut stand before the sum, wherever the others stand.
//
// Fixup (Zhang et al. 2019): scalar biases before every convolution, activation and the last layer,
// a multiplier after a branch's last convolution; with L branches of m = 2 convolutions the first
// one's initial weights are scaled by L^(-1/(2m-2)), those of the last one and of fc are 0.
// SkipInit (De and Smith 2020): a multiplier after every branch.
void BuildResNet(const v1::ResNet& model, NetworkBuilder& builder);

// The layers as they stand. A normalizer belongs to the weight layer before it (through layers
// without weights, along first inputs); where it has no node, its name stands for its input; where
// it replaces the activation, that activation's name stands for the normalizer.
void BuildCustom(const v1::CustomModel& model, NetworkBuilder& builder);

}  // namespace normlab::engine

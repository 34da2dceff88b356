// Weights in a GPU's memory.
#include "engine/model/upload.h"

#include <string>

#include "engine/base/error.h"
#include "engine/base/reader.h"

namespace vitrine::cuda {
namespace {

constexpr uint64_t kAlign = 256;
uint64_t aligned(uint64_t n) { return (n + kAlign - 1) / kAlign * kAlign; }
uint64_t data_bytes(const cpu::PackedMatrix& v) { return (static_cast<uint64_t>(v.out * v.in) * dtype_bits(v.dtype) + 7) / 8; }
uint64_t param_bytes(const Param& p) {
    return p.empty() ? 0 : aligned(data_bytes(p.view)) + aligned(p.view.bytes() - data_bytes(p.view));
}

// Moves `p` to `at` and returns the end.
std::byte* place(Param& p, std::byte* at, const std::shared_ptr<Buffer>& buffer) {
    const uint64_t data = data_bytes(p.view), scale = p.view.bytes() - data;
    Device& device = buffer->device();
    device.upload(at, p.view.data, data);
    p.view.data = at;
    at += aligned(data);
    if (scale) {
        device.upload(at, p.view.scale, scale);
        p.view.scale = at;
        at += aligned(scale);
    }
    p.owner = buffer;
    p.master = {};
    return at;
}

void require_equal_experts(const MoeWeights& w) {
    for (const auto matrix : {&ExpertWeights::w1, &ExpertWeights::w2, &ExpertWeights::w3}) {
        if (w.experts.empty()) return;
        const cpu::PackedMatrix& first = (w.experts[0].*matrix).view;
        for (const ExpertWeights& e : w.experts) {
            const cpu::PackedMatrix& v = (e.*matrix).view;
            if (v.dtype != first.dtype || v.scale_dtype != first.scale_dtype)
                throw Error(ErrorKind::bad_input,
                            (e.*matrix).name + " is " + dtype_name(v.dtype) + ", the first expert's is " +
                                dtype_name(first.dtype) +
                                ": expected one format for the experts of a layer; --device cpu runs this model");
        }
    }
}

}  // namespace

uint64_t upload_bytes(const ModelWeights& w) {
    uint64_t n = 0;
    for_each_param(w, [&](const Param& p) { n += param_bytes(p); });
    return n;
}

ModelWeights upload(const ModelWeights& host, const std::shared_ptr<Device>& device) {
    for (const BlockWeights& b : host.blocks) require_equal_experts(b.ffn);
    for (const MtpWeights& m : host.mtp) require_equal_experts(m.block.ffn);
    const auto buffer = std::make_shared<Buffer>(device, upload_bytes(host));
    ModelWeights w = host;
    std::byte* at = buffer->data();
    const auto move = [&](Param& p) {
        if (!p.empty() && p.owner != buffer) at = place(p, at, buffer);
    };
    const auto move_experts = [&](MoeWeights& m) {
        for (const auto matrix : {&ExpertWeights::w1, &ExpertWeights::w2, &ExpertWeights::w3})
            for (ExpertWeights& e : m.experts) move(e.*matrix);
    };
    for (BlockWeights& b : w.blocks) move_experts(b.ffn);
    for (MtpWeights& m : w.mtp) move_experts(m.block.ffn);
    for_each_param(w, [&](const Param& p) { move(const_cast<Param&>(p)); });  // `w` is ours
    device->sync();
    throw_if_mapping_failed();
    return w;
}

Param upload(const Param& host, const std::shared_ptr<Device>& device) {
    Param p = host;
    const auto buffer = std::make_shared<Buffer>(device, param_bytes(host));
    place(p, buffer->data(), buffer);
    device->sync();
    return p;
}

}  // namespace vitrine::cuda

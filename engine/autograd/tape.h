// The tape: what a forward pass leaves behind so that its gradients can be computed.
//
// Ops that find a tape in their Ctx make their results as new tensors (nothing is overwritten), and record one function that
// turns the gradient of the result into gradients of the inputs. `backward` runs these in reverse order. A value is known by
// the address of its first element: a reshaped view shares the gradient, a view that starts elsewhere is another value.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "engine/tensor/arena.h"

namespace vitrine {

struct Ctx;
namespace cuda { class Device; }

// Owner: the thread that trains. Activations live in the Ctx's arena, which must not be released before `backward` is over;
// gradients of activations live here.
class Tape {
  public:
    // Not recording: ops take the same path (same values, master weights) and leave nothing; for evaluation.
    // On a GPU (`device`, which must outlive it): values and gradients lie in its memory, nodes queue their work on its stream.
    explicit Tape(bool is_recording = true, cuda::Device* device = nullptr);
    bool is_recording() const { return is_recording_; }

    // A leaf (a master weight) adds its gradient to the caller's memory, which has its dtype and count.
    void bind(const Tensor& leaf, const Tensor& gradient);
    // The same where that memory holds nothing yet: what flows first is written, and `backward` leaves zeros if nothing flows.
    void bind_empty(const Tensor& leaf, const Tensor& gradient);
    // Whether somebody wants the gradient of this weight: frozen weights are not bound.
    bool is_bound(const Tensor& leaf) const { return bound_.contains(leaf.data); }

    void unbind() { bound_.clear(); }

    // An empty tape for work inside a node of this one (recomputation), with the leaves that are bound here. One at a time; its
    // memory is kept for the next.
    Tape& inner();

    // The gradient of a value; zeros when it is first asked for.
    Tensor grad(const Tensor& x);
    // The gradient of a value without clearing it first. accumulates false: nothing has flowed to x yet, the memory holds
    // nothing, and the caller must write every element.
    struct Flow {
        Tensor gradient;
        bool accumulates;
    };
    Flow flow(const Tensor& x);
    // For the node that made x, once it has passed its gradient on: nobody asks for it again, and its memory serves other values.
    void done(const Tensor& x);
    // Whether anything has flowed to x yet: a node whose result nobody used has nothing to do.
    bool has_grad(const Tensor& x) const { return grads_.contains(x.data) || bound_.contains(x.data); }

    // Called in backward, in reverse order of recording. What it allocates from ctx.arena is released after it.
    void record(std::function<void(Ctx&)> backward);
    // What nodes recorded from now on belong to, an OpKind and a layer, for the times of backward. Set by OpTimer.
    struct Label { int op = -1, layer = 0; };
    Label label;
    void backward(Ctx& ctx);

    size_t gradient_bytes() const { return used_bytes_; }  // of activations
    size_t n_nodes() const { return nodes_.size(); }
    void clear();  // forgets nodes and gradients, keeps the memory and what is bound
    void merge();  // the same, and its memory becomes one block (Arena::merge)

  private:
    bool is_recording_;
    cuda::Device* device_;
    struct Node {
        std::function<void(Ctx&)> backward;
        Label label;
    };
    std::vector<Node> nodes_;
    std::unordered_map<const void*, Tensor> grads_;
    struct Bound {
        Tensor gradient;
        std::shared_ptr<bool> is_empty;  // with the inner tape; nullptr: never
    };
    std::unordered_map<const void*, Bound> bound_;
    std::multimap<size_t, void*> spare_;  // memory of gradients that are done, by bytes
    Arena arena_;
    size_t used_bytes_ = 0;
    std::unique_ptr<Tape> inner_;
    bool is_inner_ = false;
    void clear_memory(const Tensor& t);
};

// f(T{}) with T float or double, by the dtype of activations.
template <class F>
auto with_real(DType t, F&& f) {
    VITRINE_ASSERT(t == DType::f32 || t == DType::f64);
    return t == DType::f64 ? f(double{}) : f(float{});
}

}  // namespace vitrine

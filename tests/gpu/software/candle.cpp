// Those of Candle's own kernels that training uses beside this program's: filling, conversions, copies and a little arithmetic.
#include "candle.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "numbers.h"

namespace software {

namespace {

// A number of any type, where all of them are exact.
using Number = double;

struct Kind {
    size_t bytes;
    Number (*get)(const unsigned char *);
    void (*put)(unsigned char *, Number);
};

template <class V> Number read(const unsigned char *at) {
    V value;
    std::memcpy(&value, at, sizeof value);
    return (Number)value;
}
template <class V> void write(unsigned char *at, Number number) {
    V value = (V)number;
    std::memcpy(at, &value, sizeof value);
}
Number read_bf16(const unsigned char *at) { return get(Type::BF16, (CUdeviceptr)at, 0); }
void write_bf16(unsigned char *at, Number number) { put(Type::BF16, (CUdeviceptr)at, 0, (float)number); }

template <class V> Kind plain() { return {sizeof(V), read<V>, write<V>}; }

const std::map<std::string, Kind> KINDS = {
    {"f32", plain<float>()},    {"f64", plain<double>()},   {"f16", plain<_Float16>()}, {"u8", plain<uint8_t>()},
    {"u32", plain<uint32_t>()}, {"i64", plain<int64_t>()}, {"bf16", {2, read_bf16, write_bf16}},
};

// The arguments of a kernel, one after the other.
struct Arguments {
    void **next;
    template <class V> V take() { return *(V *)*next++; }
};

// Where element `index` of a tensor of these sizes and strides lies; row after row where there are none.
size_t place(size_t index, size_t axes, const size_t *info) {
    if (!info) return index;
    size_t at = 0;
    for (size_t axis = axes; axis-- > 0; index /= info[axis]) at += index % info[axis] * info[axes + axis];
    return at;
}

template <class Change> void each(Arguments a, Kind from, Kind to, Change change) {
    auto count = a.take<size_t>(), axes = a.take<size_t>();
    auto info = a.take<const size_t *>();
    auto in = a.take<const unsigned char *>();
    auto out = a.take<unsigned char *>();
    for (size_t i = 0; i < count; ++i)
        to.put(out + i * to.bytes, change(from.get((in ? in + place(i, axes, info) * from.bytes : out + i * from.bytes))));
}

void fill(Arguments a, Kind kind) {
    auto count = a.take<size_t>(), axes = a.take<size_t>();
    auto info = a.take<const size_t *>();
    Number value = kind.get((const unsigned char *)*a.next++);
    auto out = a.take<unsigned char *>();
    for (size_t i = 0; i < count; ++i) kind.put(out + place(i, axes, info) * kind.bytes, value);
}

void copy_rows(Arguments a, Kind kind) {
    auto from = a.take<const unsigned char *>();
    auto to = a.take<unsigned char *>();
    auto rows = a.take<uint32_t>(), columns = a.take<uint32_t>(), from_stride = a.take<uint32_t>(), to_stride = a.take<uint32_t>();
    for (size_t row = 0; row < rows; ++row)
        std::memcpy(to + row * to_stride * kind.bytes, from + row * from_stride * kind.bytes, columns * kind.bytes);
}

void affine(Arguments a, Kind kind) {
    auto count = a.take<size_t>(), axes = a.take<size_t>();
    auto info = a.take<const size_t *>();
    auto in = a.take<const unsigned char *>();
    auto out = a.take<unsigned char *>();
    Number by = kind.get((const unsigned char *)*a.next++), plus = kind.get((const unsigned char *)*a.next++);
    for (size_t i = 0; i < count; ++i) {
        const unsigned char *from = in ? in + place(i, axes, info) * kind.bytes : out + i * kind.bytes;
        kind.put(out + i * kind.bytes, kind.get(from) * by + plus);
    }
}

// Numbers to a power that stands in front of them.
void power(Arguments a, Kind kind) {
    void *exponent = a.next[3];
    std::vector<void *> plain{a.next[0], a.next[1], a.next[2], a.next[4], a.next[5]};
    Number to = kind.get((const unsigned char *)exponent);
    each({plain.data()}, kind, kind, [=](Number x) { return std::pow(x, to); });
}

template <class Join> void both(Arguments a, Kind kind, Kind to, Join join) {
    auto count = a.take<size_t>(), axes = a.take<size_t>();
    auto info = a.take<const size_t *>();
    auto left = a.take<const unsigned char *>(), right = a.take<const unsigned char *>();
    auto out = a.take<unsigned char *>();
    // Sizes, then the strides of the one, then of the other.
    std::vector<size_t> other;
    if (info) {
        other.assign(info, info + axes);
        other.insert(other.end(), info + 2 * axes, info + 3 * axes);
    }
    for (size_t i = 0; i < count; ++i) {
        size_t second = info ? place(i, axes, other.data()) : i;
        to.put(out + i * to.bytes, join(kind.get(left + place(i, axes, info) * kind.bytes), kind.get(right + second * kind.bytes)));
    }
}

// Brings the last `each` elements together, of a tensor whose axes to bring together come last.
template <class Join> void reduce(Arguments a, Kind kind, Kind to, Join join) {
    a.take<size_t>();
    auto each = a.take<size_t>(), axes = a.take<size_t>();
    auto info = a.take<const size_t *>();
    auto in = a.take<const unsigned char *>();
    auto out = a.take<unsigned char *>();
    size_t all = 1;
    for (size_t axis = 0; axis < axes; ++axis) all *= info[axis];
    for (size_t i = 0; i < all / each; ++i) {
        std::vector<Number> values(each);
        for (size_t j = 0; j < each; ++j) values[j] = kind.get(in + place(i * each + j, axes, info) * kind.bytes);
        to.put(out + i * to.bytes, join(values));
    }
}

Number sum(const std::vector<Number> &values) { return std::accumulate(values.begin(), values.end(), 0.0); }
Number first_largest(const std::vector<Number> &values) {
    return (Number)(std::max_element(values.begin(), values.end()) - values.begin());
}
Number largest(const std::vector<Number> &values) { return *std::max_element(values.begin(), values.end()); }

// Kernels by their names but for the type.
using Of = std::function<CandleKernel(Kind)>;

Of of_one(Number (*change)(Number)) {
    return [=](Kind kind) { return [=](void **a) { each({a}, kind, kind, change); }; };
}
Of of_two(Number (*join)(Number, Number)) {
    return [=](Kind kind) { return [=](void **a) { both({a}, kind, kind, join); }; };
}
Of comparison(bool (*holds)(Number, Number)) {
    return [=](Kind kind) { return [=](void **a) { both({a}, kind, KINDS.at("u8"), holds); }; };
}
Of reduction(Number (*join)(const std::vector<Number> &), const char *to = nullptr) {
    return [=](Kind kind) { return [=](void **a) { reduce({a}, kind, to ? KINDS.at(to) : kind, join); }; };
}

Number same(Number x) { return x; }

const std::map<std::string, Of> KERNELS = {
    {"const_set", [](Kind kind) { return [=](void **a) { fill({a}, kind); }; }},
    {"copy2d", [](Kind kind) { return [=](void **a) { copy_rows({a}, kind); }; }},
    {"affine", [](Kind kind) { return [=](void **a) { affine({a}, kind); }; }},
    {"upowf", [](Kind kind) { return [=](void **a) { power({a}, kind); }; }},
    {"ucopy", of_one(same)},
    {"uneg", of_one([](Number x) { return -x; })},
    {"uabs", of_one([](Number x) { return std::fabs(x); })},
    {"uexp", of_one([](Number x) { return std::exp(x); })},
    {"ulog", of_one([](Number x) { return std::log(x); })},
    {"usqr", of_one([](Number x) { return x * x; })},
    {"usqrt", of_one([](Number x) { return std::sqrt(x); })},
    {"urecip", of_one([](Number x) { return 1 / x; })},
    {"usigmoid", of_one([](Number x) { return 1 / (1 + std::exp(-x)); })},
    {"badd", of_two([](Number x, Number y) { return x + y; })},
    {"bsub", of_two([](Number x, Number y) { return x - y; })},
    {"bmul", of_two([](Number x, Number y) { return x * y; })},
    {"bdiv", of_two([](Number x, Number y) { return x / y; })},
    {"bmaximum", of_two([](Number x, Number y) { return std::max(x, y); })},
    {"bminimum", of_two([](Number x, Number y) { return std::min(x, y); })},
    {"eq", comparison([](Number x, Number y) { return x == y; })},
    {"ne", comparison([](Number x, Number y) { return x != y; })},
    {"lt", comparison([](Number x, Number y) { return x < y; })},
    {"le", comparison([](Number x, Number y) { return x <= y; })},
    {"gt", comparison([](Number x, Number y) { return x > y; })},
    {"ge", comparison([](Number x, Number y) { return x >= y; })},
    {"fast_sum", reduction(sum)},
    {"fast_sum_small", reduction(sum)},
    {"fast_max", reduction(largest)},
    {"fast_argmax", reduction(first_largest, "u32")},
};

} // namespace

CandleKernel candle_kernel(const std::string &name) {
    size_t last = name.rfind('_');
    if (last == std::string::npos || !KINDS.count(name.substr(last + 1))) return nullptr;
    Kind kind = KINDS.at(name.substr(last + 1));
    std::string what = name.substr(0, last);
    const std::string cast = "cast_";
    if (what.rfind(cast, 0) == 0 && KINDS.count(what.substr(cast.size()))) {
        Kind from = KINDS.at(what.substr(cast.size()));
        return [=](void **a) { each({a}, from, kind, same); };
    }
    auto found = KERNELS.find(what);
    return found == KERNELS.end() ? nullptr : found->second(kind);
}

} // namespace software

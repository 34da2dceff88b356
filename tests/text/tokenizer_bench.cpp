// Processor time of encoding runs of one class of character at n and 2n bytes, on a 512 KiB stack: run by hand, no
// assertion hangs on it.
//   build/release/bin/tokenizer_bench [TOKENIZER.json] [MiB]
#include <pthread.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "engine/base/utf8.h"
#include "engine/text/tokenizer.h"
#include "tests/text/text_classes.h"

using namespace vitrine;

namespace {

struct Job {
    std::string path;
    size_t n_bytes;
};

// Of this thread, so that other programs on the machine disturb less.
double cpu_ms() {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1e3 + t.tv_nsec * 1e-6;
}

// Another text every time: the processor learns the branches of one that it has seen, the better the shorter it is.
double best_ms(const text::Tokenizer& t, const test::TextClass& c, size_t n_bytes, text::EncodeStats& stats) {
    double best = 1e30;
    for (uint64_t k = 0; k < 7; ++k) {
        const std::string s = c.make(n_bytes, k);
        const double start = cpu_ms();
        t.encode(s, &stats);
        best = std::min(best, cpu_ms() - start);
    }
    return best;
}

void* measure(void* p) {
    const Job& job = *static_cast<Job*>(p);
    const double start = cpu_ms();
    const auto t = text::Tokenizer::load(job.path);
    std::printf("load %.0f ms, %d ids\n", cpu_ms() - start, t->n_ids());
    std::printf("%-22s %10s %10s %7s %7s\n", "class", "n [ms]", "2n [ms]", "time", "work");
    for (const auto& c : test::text_classes()) {
        text::EncodeStats once, twice;
        const double a = best_ms(*t, c, job.n_bytes, once), b = best_ms(*t, c, 2 * job.n_bytes, twice);
        std::printf("%-22s %10.2f %10.2f %7.3f %7.3f\n", c.name, a, b, b / a,
                    double(twice.total()) / double(once.total()));
    }
    return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
    Job job{argc > 1 ? argv[1] : VITRINE_SOURCE_DIR "/tests/text/v4_tokenizer.json",
            static_cast<size_t>((argc > 2 ? std::atof(argv[2]) : 0.5) * (1 << 20))};
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 512 << 10);
    pthread_t thread;
    if (pthread_create(&thread, &small, measure, &job) != 0) return 2;
    pthread_join(thread, nullptr);
    return 0;
}

// What every verdict of an experiment must have.
#pragma once
#include <gtest/gtest.h>

#include "engine/telemetry/lab.h"

namespace vitrine::test {

// An outcome, a sentence, tables whose rows fit their columns, curves that have points.
inline void expect_whole(const LabVerdict& v) {
    EXPECT_NE(v.outcome, LabVerdict::Outcome::none);
    EXPECT_FALSE(v.sentence.empty());
    for (const LabTable& t : v.tables)
        for (const auto& row : t.rows) EXPECT_EQ(row.size(), t.columns.size()) << t.title;
    for (const LabChart& chart : v.charts)
        for (const LabCurve& c : chart.curves) EXPECT_TRUE(c.x.size() == c.y.size() && !c.x.empty()) << c.label;
}

}  // namespace vitrine::test

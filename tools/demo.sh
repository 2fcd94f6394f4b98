#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `make demo`: a real server, a real model, real passages over a real gRPC connection; then how fast that goes here.
set -eu
export LC_ALL=C
cd "$(dirname "$0")/.."
. tools/serve_for.sh

rank() { # QUERY, passages on stdin
    printf '\n%s\n' "$1"
    "$couplet" rank --target "$server" --query "$1"
}

printf 'all-MiniLM-L6-v2, fp32, over gRPC: the score of a passage is the cosine of its vector and the query'\''s\n'
start_server models/all-MiniLM-L6-v2

rank "why is the sky blue?" <<'END'
The bakery on the corner opens at six and sells out of rye bread before eight.
The ocean looks blue mostly because water absorbs red light before it absorbs blue.
Jazz grew up in New Orleans, where brass bands and blues singers worked the same streets.
Air scatters short wavelengths of sunlight far more than long ones, so blue light reaches the eye from everywhere.
Painters in the Renaissance ground lapis lazuli, which cost more than gold, to get a lasting blue.
At dusk the light crosses much more air, the blue is lost on the way, and the horizon turns orange and red.
END

rank "how do I stop bread from going stale?" <<'END'
Bicycle chains last longer when they are wiped dry after a ride in the rain.
Sourdough starter needs feeding with flour and water once a day if it lives on the counter.
The stock market closed slightly lower after a quiet afternoon.
Keep a loaf cut side down in a paper bag at room temperature; the fridge makes the crumb firm up faster.
Sliced bread freezes well and can go straight from the freezer into the toaster.
Rice should be rinsed until the water runs clear before it is steamed.
END

rank "what is a mutex for?" <<'END'
Two threads that each wait for what the other holds will wait for ever; taking locks in one fixed order prevents it.
Hash tables find a key in constant time on average, if the hash spreads the keys well.
A mutex is a lock that one thread holds at a time, so that two of them never change shared data at once.
A process has its own address space, while the threads inside it share one.
The thread of a screw is measured by its pitch, the distance from one crest to the next.
Garden gates rust at the hinges first, where the paint wears off.
END

rank "symptoms of a vitamin D deficiency" <<'END'
Vitamin C is lost when vegetables are boiled for long.
Too little vitamin D often shows as tiredness, aching bones and weak muscles, and in children as soft bones.
Skin makes vitamin D in sunlight, which is why levels fall in northern winters.
Oily fish, egg yolks and fortified milk are among the few foods with much vitamin D in them.
Ferries to the island leave every two hours in summer.
The letter D was the fourth sign of the Phoenician alphabet and meant a door.
END
stop_server

# MODEL LABEL: a few seconds of load on a fresh server, a line for each shape of it.
speed() {
    start_server "$1"
    for shape in "1 1" "1 16" "32 1" "32 4"; do
        pairs=${shape% *} in_flight=${shape#* }
        "$couplet" load --target "$server" --pairs-per-request "$pairs" --concurrency "$in_flight" \
            --duration "${DEMO_SECONDS:-3}" --json >"$work/load.json"
        figure() { sed -n "s/^ *\"$1\": \([-0-9.e+]*\),*\$/\1/p" "$work/load.json" | head -n 1; }
        printf '%-22s %13s %10s %10.1f %9.2f %9.2f %9s\n' "$2" "$pairs" "$in_flight" "$(figure pairs_per_s)" \
            "$(figure p50)" "$(figure p99)" "$(figure failed)"
    done
    stop_server
}

printf '\nhow fast that goes here: fp32, generated texts of about 103 tokens a pair, %s cores for server and load together\n' \
    "$(nproc)"
printf '%-22s %13s %10s %10s %9s %9s %9s\n' model 'pairs/request' 'in flight' 'pairs/s' 'p50 ms' 'p99 ms' failed
speed models/all-MiniLM-L6-v2 all-MiniLM-L6-v2
speed models/seeded-cross-encoder seeded-cross-encoder
printf 'The seeded cross-encoder has a head drawn from a seed: its speed is real, its scores would mean nothing.\n'

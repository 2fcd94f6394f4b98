/* SPDX-License-Identifier: Apache-2.0 */
/* generator.c - text that has the lengths and word frequencies of real passages and no meaning.
 * The one idea: a document is built against a budget of tokens drawn from a table of log-normal quantiles, and every
 * word is charged what BERT's vocabulary makes of it, so that lengths come out right without a tokenizer. Ranks are
 * drawn as an octave and a place in it, which is Zipf's law in integers: no floating point, the same text on every
 * machine. A made-up name that spells the pair's number stands in query and document, which keeps every line different.
 * Invariant: words[] are whole words of the uncased BERT vocabulary, most frequent first. Threads: the caller's state.
 * Rejected: sampling from a committed corpus (a licence to carry, and megabytes), Markov chains (no better for a
 * bench). */
#include "text/generator.h"

#include "base/error.h"
#include "base/random.h"

/* clang-format off */
static const char *const words[512] = {
    "the", "of", "and", "in", "to", "he", "is", "as", "for", "on", "with", "that", "it", "by", "at", "from", "you",
    "an", "were", "but", "be", "this", "are", "not", "my", "they", "one", "which", "or", "have", "me", "first", "all",
    "their", "has", "up", "who", "out", "been", "when", "after", "there", "into", "new", "two", "its", "time",
    "would", "no", "what", "about", "we", "over", "then", "other", "so", "more", "can", "if", "like", "back", "them",
    "only", "some", "could", "where", "just", "during", "before", "do", "made", "school", "through", "than", "now",
    "years", "most", "world", "may", "between", "down", "well", "three", "year", "while", "will", "later", "city",
    "under", "around", "did", "such", "being", "used", "state", "people", "part", "know", "against", "your", "many",
    "second", "university", "both", "national", "these", "known", "off", "way", "until", "how", "even", "get", "head",
    "team", "because", "born", "united", "film", "since", "still", "long", "work", "south", "us", "became", "any",
    "high", "again", "day", "family", "see", "right", "man", "house", "season", "states", "including", "took", "life",
    "north", "same", "each", "called", "name", "much", "place", "however", "go", "four", "group", "another", "found",
    "won", "area", "here", "going", "away", "series", "left", "home", "music", "best", "make", "hand", "number",
    "company", "several", "never", "last", "very", "album", "take", "end", "good", "too", "following", "released",
    "game", "played", "little", "began", "district", "old", "want", "those", "side", "held", "own", "early", "county",
    "league", "use", "west", "face", "think", "government", "came", "small", "general", "town", "line", "based",
    "something", "thought", "looked", "along", "international", "air", "club", "went", "our", "few", "east", "show",
    "member", "college", "father", "public", "come", "men", "five", "set", "station", "next", "former", "room",
    "party", "located", "age", "got", "system", "let", "love", "though", "every", "look", "song", "water", "century",
    "without", "body", "black", "night", "within", "great", "women", "single", "building", "large", "population",
    "river", "named", "band", "white", "started", "once", "should", "service", "top", "built", "open", "moved",
    "local", "times", "children", "book", "why", "door", "need", "president", "order", "final", "road", "although",
    "due", "major", "village", "third", "knew", "asked", "turned", "wanted", "say", "together", "received", "main",
    "son", "served", "different", "behind", "himself", "felt", "members", "power", "football", "law", "voice", "play",
    "near", "park", "history", "having", "saw", "mother", "point", "front", "help", "english", "street", "art",
    "late", "hands", "games", "award", "young", "put", "published", "country", "division", "across", "told", "often",
    "ever", "center", "six", "red", "led", "days", "include", "light", "find", "tell", "among", "species", "really",
    "according", "central", "half", "form", "original", "gave", "office", "making", "enough", "lost", "full",
    "opened", "must", "included", "live", "given", "player", "run", "business", "woman", "community", "cup", "might",
    "million", "land", "court", "development", "short", "round", "seen", "class", "story", "always", "become", "sure",
    "research", "almost", "director", "council", "career", "things", "using", "island", "car", "close", "force",
    "better", "free", "support", "control", "field", "students", "education", "married", "nothing", "worked",
    "others", "record", "big", "inside", "level", "anything", "continued", "give", "established", "non", "returned",
    "feel", "does", "title", "written", "thing", "feet", "far", "association", "hard", "already", "championship",
    "human", "western", "department", "hall", "role", "various", "production", "heart", "living", "fire", "version",
    "television", "royal", "produced", "working", "act", "case", "society", "region", "present", "radio", "period",
    "looking", "least", "total", "keep", "wife", "program", "per", "brother", "mind", "special", "works", "soon",
    "political", "services", "taken", "created", "further", "able", "reached", "union", "joined", "upon", "done",
    "important", "social", "information", "either", "appeared", "position", "ground", "lead", "rock", "dark",
    "election", "board", "hair", "course", "arms", "site", "police", "girl", "instead", "real", "sound", "words",
    "moment", "someone", "summer", "project", "announced", "less", "wrote", "past", "followed", "blue", "founded",
    "finally", "taking", "records", "design", "considered", "northern", "stop", "toward", "outside", "described",
    "track", "today", "playing", "language", "call", "heard", "professional", "low", "miles", "win",
};
static const char *const stems[32] = {
    "commun", "transform", "electr", "product", "metabol", "hydraul", "organ", "compos", "regul", "magnet", "fluor",
    "therm", "crystal", "poly", "synth", "carbon", "gastr", "neur", "cardi", "aller", "vibr", "satur", "calibr", "photo",
    "sediment", "ferment", "insul", "modul", "oscill", "pigment", "catal", "lubric"};
static const char *const endings[16] = {
    "ation", "ative", "izing", "ology", "ously", "ment", "ality", "ized", "ators", "ability", "ating", "ist", "otic",
    "inal", "ency", "esque"};
static const char *const openings[16] = {
    "what is the", "how to", "definition of", "how long does", "cost of", "where is", "what are the", "how much does",
    "who is", "symptoms of", "average", "when did", "meaning of", "why do", "is", "best"};
static const char *const syllables[64] = {
    "ba", "be", "bo", "ca", "ce", "co", "da", "de", "do", "fa", "fe", "fo", "ga", "ge", "go", "ha", "he", "ho", "ka", "ke",
    "ko", "la", "le", "lo", "ma", "me", "mo", "na", "ne", "no", "pa", "pe", "po", "ra", "re", "ro", "sa", "se", "so", "ta",
    "te", "to", "va", "ve", "vo", "wa", "we", "wo", "za", "ze", "zo", "bi", "di", "fi", "li", "mi", "ni", "pi", "ri", "si",
    "ti", "vi", "lu", "nu"};
/* clang-format on */

/* Tokens of a pair and of a query at quantiles 0, 1/64 .. 1: log-normal (median 102.5, sigma 0.27; median 7.7, sigma
 * 0.3), the ends cut off. */
static const uint16_t pair_quantiles[65] = {
    32,  57,  62,  65,  68,  70,  72,  74,  75,  77,  78,  79,  81,  82,  83,  84,  85,  87,  88,  89,  90,  91,
    92,  93,  94,  95,  96,  97,  98,  99,  100, 101, 102, 104, 105, 106, 107, 108, 109, 110, 112, 113, 114, 116,
    117, 118, 120, 121, 123, 125, 126, 128, 130, 132, 135, 137, 140, 143, 146, 150, 155, 161, 169, 183, 230};
static const uint16_t query_quantiles[65] = {
    4, 4, 4, 5, 5, 5, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 6,  6,  6,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  8,  8, 8,
    8, 8, 8, 8, 8, 8, 8, 8, 9, 9, 9, 9, 9, 9, 9, 9, 10, 10, 10, 10, 10, 10, 11, 11, 11, 11, 12, 12, 13, 13, 15, 20};

uint32_t cpl_text_generator_below(cpl_text_generator *g, uint32_t n)
{
    return (uint32_t)((cpl_random_next(&g->state) >> 32) * n >> 32);
}

static uint32_t draw(cpl_text_generator *g, const uint16_t quantiles[65])
{
    uint32_t at = cpl_text_generator_below(g, 64), part = cpl_text_generator_below(g, 256);
    return quantiles[at] + ((uint32_t)(quantiles[at + 1] - quantiles[at]) * part + 128) / 256;
}

uint32_t cpl_text_generator_name(cpl_buf *out, uint64_t ordinal, bool capital)
{
    size_t from = out->size;
    uint32_t parts = 0;
    for (uint64_t rest = ordinal;; rest >>= 18) {
        uint32_t mixed = (uint32_t)(rest * 0x2545F + 0x1A2B3) & 0x3FFFF; /* odd factor: one to one */
        for (int i = 0; i < 3; i++) cpl_buf_text(out, syllables[mixed >> 6 * i & 63]);
        parts += 3;
        if (rest < (uint64_t)1 << 18) break;
    }
    if (capital && !out->failed) out->data[from] = (char)(out->data[from] - 'a' + 'A');
    return parts;
}

/* One word by Zipf's law, in front of it a space; returns its tokens, roughly. */
static uint32_t add_word(cpl_text_generator *g, cpl_buf *out, bool capital)
{
    size_t from = out->size + 1;
    uint32_t tokens = 1, kind = cpl_text_generator_below(g, 64);
    cpl_buf_text(out, " ");
    if (kind < 5) {
        cpl_buf_text(out, stems[cpl_text_generator_below(g, 32)]);
        cpl_buf_text(out, endings[cpl_text_generator_below(g, 16)]);
        tokens = 3;
    } else if (kind < 6) {
        cpl_buf_print(out, "%u", 1 + cpl_text_generator_below(g, 99));
    } else {
        uint32_t octave = cpl_text_generator_below(g, 9),
                 rank = (1u << octave) - 1 + cpl_text_generator_below(g, 1u << octave);
        cpl_buf_text(out, words[rank]);
    }
    if (capital && !out->failed && out->data[from] >= 'a') out->data[from] = (char)(out->data[from] - 'a' + 'A');
    return tokens;
}

static void add_document(cpl_text_generator *g, cpl_buf *out, uint32_t budget)
{
    uint32_t tokens = cpl_text_generator_name(out, g->ordinal, true), left = 6 + cpl_text_generator_below(g, 16);
    bool capital = false;
    while (tokens + 1 < budget) {
        tokens += add_word(g, out, capital);
        capital = false;
        uint32_t mark = cpl_text_generator_below(g, 32);
        if (!--left) {
            cpl_buf_text(out, ".");
            tokens++;
            left = 7 + cpl_text_generator_below(g, 20);
            capital = true;
        } else if (mark < 2 && tokens + 2 < budget) {
            cpl_buf_text(out, ",");
            tokens++;
        }
    }
    if (!capital) cpl_buf_text(out, ".");
}

void cpl_text_generator_init(cpl_text_generator *g, uint64_t seed) { *g = (cpl_text_generator){.state = seed}; }

cpl_status cpl_text_generator_pair(cpl_text_generator *g, cpl_buf *query, cpl_buf *document, cpl_error *err)
{
    uint32_t total = draw(g, pair_quantiles), asked = draw(g, query_quantiles), tokens = 2;
    cpl_buf_text(query, openings[cpl_text_generator_below(g, 16)]);
    cpl_buf_text(query, " ");
    tokens += cpl_text_generator_name(query, g->ordinal, false);
    while (tokens < asked) tokens += add_word(g, query, false);
    add_document(g, document, total - 3 - tokens);
    g->ordinal++;
    cpl_status st = cpl_buf_status(query, err);
    return st ? st : cpl_buf_status(document, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* config.json: a valid one read whole, then one change at a time and the sentence it must give. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "model/config.h"

#define FILE_NAME "some/config.json"

static const char base[] = "{\"architectures\":[\"BertForSequenceClassification\"],\"model_type\":\"bert\","
                           "\"hidden_size\":64,\"num_attention_heads\":2,\"num_hidden_layers\":3,"
                           "\"intermediate_size\":128,\"vocab_size\":300,\"max_position_embeddings\":100,"
                           "\"type_vocab_size\":2,\"layer_norm_eps\":1e-12,\"hidden_act\":\"gelu\","
                           "\"id2label\":{\"0\":\"relevant\"},\"hidden_dropout_prob\":0.1}";

static cpl_arena arena;
static cpl_model_config config;
static cpl_error err;

/* base with the members of `change` put over it (null removes). */
static cpl_status parse(const char *change)
{
    json_error_t e;
    json_t *root = json_loads(base, 0, &e), *over = json_loads(change, 0, &e);
    assert_non_null(root);
    if (!over) fail_msg("the test's own JSON is broken: %s", change);
    assert_int_equal(json_object_update(root, over), 0);
    char *text = json_dumps(root, 0);
    assert_non_null(text);
    cpl_arena_deinit(&arena);
    cpl_arena_init(&arena, 4096, 0);
    cpl_error_clear(&err);
    cpl_status st = cpl_model_config_parse(&config, FILE_NAME, text, strlen(text), &arena, &err);
    free(text);
    json_decref(root);
    json_decref(over);
    return st;
}

static void expect(const char *change, cpl_status status, const char *word, const char *second)
{
    cpl_status st = parse(change);
    if (st != status) fail_msg("%s: status %d, expected %d (%s)", change, st, status, err.what);
    if (!strstr(err.what, FILE_NAME ": ") || !strstr(err.what, word) || !strstr(err.what, second))
        fail_msg("%s: '%s' does not name '%s' and '%s'", change, err.what, word, second);
    if (strpbrk(err.what, "\r\n")) fail_msg("'%s' is more than a line", err.what);
}

static void reads_a_cross_encoder(void **state)
{
    (void)state;
    assert_int_equal(parse("{}"), CPL_OK);
    const cpl_arch *a = &config.arch;
    assert_true(config.classifier && !config.bare);
    assert_string_equal(config.architecture, "BertForSequenceClassification");
    assert_true(a->layers == 3 && a->hidden == 64 && a->heads == 2 && a->head_size == 32 && a->intermediate == 128);
    assert_true(a->vocab == 300 && a->positions == 100 && a->types == 2 && a->labels == 1);
    assert_true(a->norm_epsilon == 1e-12f && a->activation == CPL_ACTIVATION_GELU);
    assert_int_equal(a->head, CPL_HEAD_POOLER_CLASSIFIER);
    assert_string_equal(config.labels[0], "relevant");
    assert_string_equal(config.note, "");
    assert_true(!config.activation_given && config.activation == CPL_SCORE_SIGMOID);
}

static void reads_an_encoder_with_defaults(void **state)
{
    (void)state;
    assert_int_equal(parse("{\"architectures\":[\"BertModel\"],\"max_position_embeddings\":null,\"hidden_act\":null,"
                           "\"type_vocab_size\":null,\"layer_norm_eps\":null,\"couplet_note\":\"hm\"}"),
                     CPL_OK);
    assert_true(config.bare && !config.classifier && config.arch.labels == 0 && !config.labels);
    assert_int_equal(config.arch.head, CPL_HEAD_NONE);
    assert_true(config.arch.positions == 512 && config.arch.types == 2 && config.arch.norm_epsilon == 1e-12f);
    assert_string_equal(config.note, "hm");
    assert_int_equal(parse("{\"architectures\":null}"), CPL_OK);
    assert_string_equal(config.architecture, "BertModel");
    assert_int_equal(parse("{\"model_type\":null}"), CPL_OK);
    assert_int_equal(parse("{\"architectures\":[\"BertForMaskedLM\"]}"), CPL_OK);
    assert_true(!config.bare && !config.classifier);
}

static void reads_activations(void **state)
{
    (void)state;
    assert_int_equal(parse("{\"hidden_act\":\"gelu_new\"}"), CPL_OK);
    assert_int_equal(config.arch.activation, CPL_ACTIVATION_GELU_TANH);
    assert_int_equal(parse("{\"hidden_act\":\"gelu_pytorch_tanh\"}"), CPL_OK);
    assert_int_equal(config.arch.activation, CPL_ACTIVATION_GELU_TANH);
    assert_int_equal(parse("{\"hidden_act\":\"relu\"}"), CPL_OK);
    assert_int_equal(config.arch.activation, CPL_ACTIVATION_RELU);
    expect("{\"hidden_act\":\"swiglu\"}", CPL_UNSUPPORTED, "hidden_act", "'swiglu'");
    expect("{\"hidden_act\":3}", CPL_CORRUPT, "hidden_act", "a number");
}

static void refuses_other_models_by_name(void **state)
{
    (void)state;
    expect("{\"model_type\":\"roberta\"}", CPL_UNSUPPORTED, "model_type", "'roberta'");
    expect("{\"architectures\":[\"BertForTokenClassification\"]}", CPL_UNSUPPORTED, "architecture",
           "BertForTokenClassification");
    expect("{\"architectures\":[\"XLMRobertaModel\"],\"model_type\":\"xlm-roberta\"}", CPL_UNSUPPORTED, "model_type",
           "xlm-roberta");
    expect("{\"architectures\":[]}", CPL_CORRUPT, "architectures", "of 0");
    expect("{\"architectures\":[\"BertModel\",\"BertModel\"]}", CPL_CORRUPT, "architectures", "of 2");
    expect("{\"architectures\":\"BertModel\"}", CPL_CORRUPT, "architectures", "a string");
    expect("{\"architectures\":null,\"model_type\":null}", CPL_CORRUPT, "model_type", "architectures");
    expect("{\"position_embedding_type\":\"relative_key\"}", CPL_UNSUPPORTED, "relative positions", "'relative_key'");
    expect("{\"position_embedding_type\":\"relative_key_query\"}", CPL_UNSUPPORTED, "relative positions", "_query'");
    expect("{\"position_embedding_type\":\"alibi\"}", CPL_UNSUPPORTED, "position_embedding_type", "'alibi'");
    expect("{\"is_decoder\":true}", CPL_UNSUPPORTED, "is_decoder", "decoder");
    expect("{\"add_cross_attention\":true}", CPL_UNSUPPORTED, "cross-attention", "encoder");
    expect("{\"is_encoder_decoder\":true}", CPL_UNSUPPORTED, "is_encoder_decoder", "encoder");
    expect("{\"pruned_heads\":{\"0\":[1]}}", CPL_UNSUPPORTED, "pruned heads", "pruned_heads");
    expect("{\"quantization_config\":{\"bits\":8}}", CPL_UNSUPPORTED, "quantized", "quantization_config");
    expect("{\"auto_map\":{\"AutoModel\":\"x.Y\"}}", CPL_UNSUPPORTED, "code of its own", "auto_map");
    assert_int_equal(parse("{\"pruned_heads\":{},\"is_decoder\":false,\"position_embedding_type\":\"absolute\"}"),
                     CPL_OK);
}

static void refuses_sizes(void **state)
{
    (void)state;
    expect("{\"num_attention_heads\":3}", CPL_CORRUPT, "multiple", "64 and 3");
    expect("{\"num_attention_heads\":0}", CPL_CORRUPT, "num_attention_heads", "found 0");
    expect("{\"hidden_size\":-64}", CPL_CORRUPT, "hidden_size", "found -64");
    expect("{\"hidden_size\":64.5}", CPL_CORRUPT, "hidden_size", "found 64.5");
    expect("{\"hidden_size\":\"64\"}", CPL_CORRUPT, "hidden_size", "a string");
    expect("{\"hidden_size\":null}", CPL_CORRUPT, "hidden_size", "missing");
    expect("{\"hidden_size\":4294967360}", CPL_CORRUPT, "hidden_size", "found 4294967360");
    expect("{\"num_hidden_layers\":0}", CPL_CORRUPT, "num_hidden_layers", "found 0");
    expect("{\"num_hidden_layers\":1000000000}", CPL_CORRUPT, "num_hidden_layers", "from 1 to 1024");
    expect("{\"intermediate_size\":9223372036854775807}", CPL_CORRUPT, "intermediate_size", "found 9.2233");
    expect("{\"vocab_size\":0}", CPL_CORRUPT, "vocab_size", "found 0");
    expect("{\"vocab_size\":2147483648}", CPL_CORRUPT, "vocab_size", "found 2147483648");
    expect("{\"type_vocab_size\":0}", CPL_CORRUPT, "type_vocab_size", "found 0");
    expect("{\"type_vocab_size\":257}", CPL_CORRUPT, "type_vocab_size", "found 257");
    expect("{\"max_position_embeddings\":2}", CPL_CORRUPT, "max_position_embeddings", "found 2");
    expect("{\"layer_norm_eps\":0}", CPL_CORRUPT, "layer_norm_eps", "found 0");
    expect("{\"layer_norm_eps\":-1e-12}", CPL_CORRUPT, "layer_norm_eps", "-1e-12");
    expect("{\"layer_norm_eps\":0.5}", CPL_CORRUPT, "layer_norm_eps", "0.5");
    expect("{\"layer_norm_eps\":\"1e-12\"}", CPL_CORRUPT, "layer_norm_eps", "a string");
    assert_int_equal(parse("{\"hidden_size\":64.0,\"layer_norm_eps\":1e-5}"), CPL_OK);
    assert_true(config.arch.hidden == 64 && config.arch.norm_epsilon == 1e-5f);
}

static void reads_labels(void **state)
{
    (void)state;
    assert_int_equal(parse("{\"id2label\":{\"2\":\"c\",\"0\":\"a\",\"1\":\"b\"}}"), CPL_OK);
    assert_int_equal(config.arch.labels, 3);
    assert_string_equal(config.labels[0], "a");
    assert_string_equal(config.labels[2], "c");
    assert_int_equal(config.activation, CPL_SCORE_IDENTITY);
    assert_int_equal(parse("{\"id2label\":null,\"num_labels\":1}"), CPL_OK);
    assert_string_equal(config.labels[0], "LABEL_0");
    assert_int_equal(parse("{\"id2label\":null}"), CPL_OK);
    assert_int_equal(config.arch.labels, 2);
    assert_string_equal(config.labels[1], "LABEL_1");
    expect("{\"num_labels\":3}", CPL_CORRUPT, "id2label", "found 1");
    expect("{\"id2label\":{\"1\":\"b\"}}", CPL_CORRUPT, "id2label", "nothing for \"0\"");
    expect("{\"id2label\":{\"0\":7}}", CPL_CORRUPT, "id2label", "a number");
    expect("{\"id2label\":{}}", CPL_CORRUPT, "id2label", "found 0");
    expect("{\"id2label\":[\"a\"]}", CPL_CORRUPT, "id2label", "a list");
    expect("{\"id2label\":null,\"num_labels\":0}", CPL_CORRUPT, "num_labels", "found 0");
}

static void reads_the_score_activation(void **state)
{
    (void)state;
    assert_int_equal(parse("{\"sentence_transformers\":{\"activation_fn\":\"torch.nn.modules.linear.Identity\"},"
                           "\"sbert_ce_default_activation_function\":\"torch.nn.modules.activation.Sigmoid\"}"),
                     CPL_OK);
    assert_true(config.activation_given && config.activation == CPL_SCORE_IDENTITY);
    assert_int_equal(parse("{\"id2label\":{\"0\":\"a\",\"1\":\"b\"},\"sentence_transformers\":{\"version\":\"4.0\"},"
                           "\"sbert_ce_default_activation_function\":\"torch.nn.modules.activation.Sigmoid\"}"),
                     CPL_OK);
    assert_int_equal(config.activation, CPL_SCORE_SIGMOID);
    expect("{\"sentence_transformers\":{\"activation_fn\":\"torch.nn.modules.activation.Tanh\"}}", CPL_UNSUPPORTED,
           "activation_fn", "'torch.nn.modules.activation.Tanh'");
    expect("{\"sbert_ce_default_activation_function\":\"my.Own\"}", CPL_UNSUPPORTED,
           "sbert_ce_default_activation_function", "'my.Own'");
    expect("{\"sentence_transformers\":7}", CPL_CORRUPT, "sentence_transformers", "a number");
}

static void refuses_broken_json(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *word;
    } cases[] = {{"", "JSON"},
                 {"{", "JSON"},
                 {"[]", "an object"},
                 {"{\"a\":1,\"a\":2}", "duplicate"},
                 {"{\"a\xC3\":1}", "JSON"},
                 {"7", "JSON"},
                 {"{} {}", "JSON"},
                 {"{\"a\":\"\\u0\nb\"}", "JSON"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cpl_status st = cpl_model_config_parse(&config, FILE_NAME, cases[i].text, strlen(cases[i].text), &arena, &err);
        assert_int_equal(st, CPL_CORRUPT);
        if (!strstr(err.what, cases[i].word)) fail_msg("'%s' does not say '%s'", err.what, cases[i].word);
        assert_string_equal(err.file, FILE_NAME);
        assert_null(strpbrk(err.what, "\r\n"));
    }
}

static void shows_hostile_text_in_one_short_line(void **state)
{
    (void)state;
    expect("{\"model_type\":\"a\\n\\u001b[31mb\\u007f\"}", CPL_UNSUPPORTED, "'a??[31mb?'", "model_type");
    char change[2048] = "{\"model_type\":\"";
    for (int i = 0; i < 400; i++) strcat(change, "\xC3\xA9");
    strcat(change, "\"}");
    expect(change, CPL_UNSUPPORTED, "\xC3\xA9...'", "expected 'bert'");
}

static int release(void **state)
{
    (void)state;
    cpl_arena_deinit(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_cross_encoder),
        cmocka_unit_test(reads_an_encoder_with_defaults),
        cmocka_unit_test(reads_activations),
        cmocka_unit_test(refuses_other_models_by_name),
        cmocka_unit_test(refuses_sizes),
        cmocka_unit_test(reads_labels),
        cmocka_unit_test(reads_the_score_activation),
        cmocka_unit_test(refuses_broken_json),
        cmocka_unit_test(shows_hostile_text_in_one_short_line),
    };
    return cmocka_run_group_tests(tests, NULL, release);
}

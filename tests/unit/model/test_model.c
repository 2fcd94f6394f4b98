/* SPDX-License-Identifier: Apache-2.0 */
/* Whole directories: the five tiny models as they are, then one file changed at a time and the sentence it must give.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>

#include "base/error.h"
#include "model/model.h"
#include "unit/model/model_dir.h"

static cpl_model *model;
static cpl_error err;

static cpl_status reopen(void)
{
    cpl_model_close(model);
    cpl_error_clear(&err);
    model = (cpl_model *)&err; /* must be overwritten */
    return cpl_model_open(&model, model_dir, &err);
}

static void works(void)
{
    if (reopen()) fail_msg("%s", err.what);
}

static void expect(cpl_status status, const char *file, const char *word, const char *second)
{
    cpl_status st = reopen();
    if (st != status) fail_msg("status %d, expected %d (%s)", st, status, err.what);
    assert_null(model);
    assert_int_equal(err.status, status);
    if (!strstr(err.what, file) || !strstr(err.what, word) || !strstr(err.what, second))
        fail_msg("'%s' does not name '%s', '%s' and '%s'", err.what, file, word, second);
    if (strpbrk(err.what, "\r\n")) fail_msg("'%s' is more than a line", err.what);
}

/* Opens a fresh copy, puts the change into one of its JSON files, and expects the sentence. */
static void refuse(const char *name, const char *file, const char *change, cpl_status status, const char *word,
                   const char *second)
{
    dir_open(name);
    dir_change(file, change);
    expect(status, file, word, second);
}

static void refuse_tensor(const char *name, const char *to, const char *change, cpl_status status, const char *word,
                          const char *second)
{
    dir_open("cross-encoder");
    dir_change_tensor(name, to, change);
    expect(status, "model.safetensors", word, second);
    assert_true(err.key[0]);
}

static void opens_the_tiny_models(void **state)
{
    (void)state;
    dir_open("cross-encoder");
    works();
    assert_string_equal(model->dir, model_dir);
    assert_int_equal(model->task, CPL_TASK_CROSS_ENCODER);
    assert_true(model->arch.labels == 1 && model->activation == CPL_SCORE_SIGMOID && model->max_length == 104);
    assert_string_equal(model->labels[0], "LABEL_0");
    assert_non_null(strstr(model->note, "scores mean nothing"));
    assert_int_equal(model->parameters, 72289);
    dir_open("cross-encoder-3-labels");
    works();
    assert_true(model->arch.labels == 3 && model->activation == CPL_SCORE_IDENTITY && model->arch.head_size == 64);
    assert_string_equal(model->labels[2], "neutral");
    assert_int_equal(model->weights.classifier_weight.dtype, CPL_DTYPE_F16);
    assert_true(model->weights.classifier_weight.shape[0] == 3 && model->weights.classifier_weight.shape[1] == 64);
    dir_open("embedder-mean");
    works();
    assert_true(model->task == CPL_TASK_EMBEDDER && model->pooling == CPL_POOLING_MEAN && model->normalize);
    assert_true(model->max_length == 64 && model->arch.labels == 0 && !model->labels);
    assert_null(model->weights.pooler_weight.data);
    assert_int_equal(model->weights.layers[0].up_weight.dtype, CPL_DTYPE_BF16);
    dir_open("embedder-cls");
    works();
    assert_true(model->pooling == CPL_POOLING_CLS && !model->normalize && model->max_length == 104);
    assert_int_equal(model->arch.activation, CPL_ACTIVATION_RELU);
    dir_open("embedder-max");
    works();
    assert_true(model->pooling == CPL_POOLING_MAX && model->normalize);
    assert_int_equal(model->arch.activation, CPL_ACTIVATION_GELU_TANH);
}

static void all_finite(const cpl_tensor *t)
{
    static float values[1 << 16];
    size_t n = cpl_tensor_count(t);
    assert_in_range(n, 1, 1 << 16);
    cpl_tensor_read_f32(t, 0, n, values);
    for (size_t i = 0; i < n; i++) assert_true(isfinite(values[i]) && fabsf(values[i]) < 100);
}

/* Through odd addresses (embedder-max), also after the pages were given back. */
static void reads_every_weight(void **state)
{
    (void)state;
    dir_open("embedder-max");
    works();
    assert_int_not_equal((uintptr_t)model->weights.word_embedding.data % 2, 0);
    for (int round = 0; round < 2; round++) {
        const cpl_weights_by_role *w = &model->weights;
        all_finite(&w->word_embedding);
        all_finite(&w->position_embedding);
        all_finite(&w->type_embedding);
        all_finite(&w->embedding_norm_weight);
        all_finite(&w->embedding_norm_bias);
        for (uint32_t i = 0; i < model->arch.layers; i++) {
            const cpl_tensor *t = (const cpl_tensor *)&w->layers[i];
            for (size_t k = 0; k < sizeof(cpl_layer) / sizeof(cpl_tensor); k++) all_finite(t + k);
        }
        cpl_model_release_pages(model);
    }
}

static void refuses_wrong_tensors(void **state)
{
    (void)state;
    const char *query = "bert.encoder.layer.1.attention.self.query.weight",
               *words = "bert.embeddings.word_embeddings.weight";
    refuse_tensor(words, NULL, "{\"shape\":[64,103]}", CPL_CORRUPT, words, "expected shape [103, 64] as config.json");
    assert_non_null(strstr(err.what, "found [64, 103]"));
    assert_string_equal(err.key, words);
    refuse_tensor(query, NULL, "{\"shape\":[4096]}", CPL_CORRUPT, query, "expected shape [64, 64]");
    refuse_tensor(query, NULL, "{\"dtype\":\"I32\"}", CPL_UNSUPPORTED, query, "I32");
    refuse_tensor(query, NULL, "{\"dtype\":\"F16\"}", CPL_CORRUPT, query, "4096 elements of 16 bits");
    refuse_tensor(query, "elsewhere", "{}", CPL_CORRUPT, query, "missing: expected shape [64, 64]");
    refuse_tensor("classifier.bias", "classifier.b", "{}", CPL_CORRUPT, "'classifier.bias' is missing", "[1]");
    refuse_tensor("classifier.bias", NULL, "{\"shape\":[1,1]}", CPL_CORRUPT, "expected shape [1]", "found [1, 1]");
    refuse_tensor("classifier.bias", NULL, "{\"shape\":[]}", CPL_CORRUPT, "expected shape [1]", "found []");
    refuse_tensor("bert.pooler.dense.weight", "pooler.dense.weight", "{}", CPL_CORRUPT, "'bert.pooler.dense.weight'",
                  "missing");
    refuse_tensor(words, "other", "{}", CPL_CORRUPT, "'embeddings.word_embeddings.weight' is missing", "[103, 64]");
}

static void refuses_what_is_left_over(void **state)
{
    (void)state;
    dir_open("cross-encoder");
    dir_change("config.json", "{\"num_hidden_layers\":1}");
    expect(CPL_UNSUPPORTED, "model.safetensors", "bert.encoder.layer.1.", "no place");
    dir_open("cross-encoder");
    dir_change("config.json", "{\"num_hidden_layers\":3}");
    expect(CPL_CORRUPT, "model.safetensors", "bert.encoder.layer.2.attention.self.query.weight", "missing");
    dir_open("cross-encoder");
    dir_change_tensor("classifier.bias", "bert.encoder.layer.0.attention.self.distance_embedding.weight", "{}");
    dir_change("config.json", "{\"architectures\":[\"BertModel\"]}");
    expect(CPL_UNSUPPORTED, "model.safetensors", "distance_embedding", "no place");
}

static void refuses_two_of_one(void **state)
{
    (void)state;
    dir_open("cross-encoder");
    dir_change_tensor("bert.pooler.dense.weight", "embeddings.word_embeddings.weight", "{}");
    expect(CPL_CORRUPT, "model.safetensors", "two encoders", "'bert.embeddings...'");
    dir_open("cross-encoder");
    dir_change_tensor("bert.pooler.dense.bias", "bert.embeddings.LayerNorm.gamma", "{}");
    expect(CPL_CORRUPT, "model.safetensors", "'bert.embeddings.LayerNorm.weight'", "LayerNorm.gamma");
}

static void accepts_what_a_head_leaves(void **state)
{
    (void)state;
    dir_open("cross-encoder"); /* its encoder as an embedder: pooler and classifier stay unused */
    dir_change("config.json", "{\"architectures\":[\"BertModel\"]}");
    works();
    assert_true(model->task == CPL_TASK_EMBEDDER && model->pooling == CPL_POOLING_MEAN && !model->normalize);
    assert_non_null(strstr(model->note, "no modules.json: mean pooling"));
    assert_non_null(strstr(model->note, "; tiny random model"));
    assert_null(model->weights.classifier_weight.data);
    dir_change("config.json", "{\"architectures\":[\"BertForMaskedLM\"]}");
    expect(CPL_UNSUPPORTED, model_dir, "BertForMaskedLM", "without modules.json");
    dir_text("modules.json", "[{\"path\":\"\",\"type\":\"sentence_transformers.models.Transformer\"},"
                             "{\"path\":\"1_Pooling\",\"type\":\"sentence_transformers.models.Pooling\"}]");
    dir_text("1_Pooling/config.json", "{\"pooling_mode\":[\"max\"]}");
    works();
    assert_int_equal(model->pooling, CPL_POOLING_MAX);
}

static void refuses_missing_and_other_weights(void **state)
{
    (void)state;
    strcpy(model_dir, "/nonexistent/model");
    expect(CPL_NOT_FOUND, "/nonexistent/model/config.json", "open", "No such file");
    model_dir[0] = 0;
    dir_open("cross-encoder");
    dir_unlink("model.safetensors");
    expect(CPL_NOT_FOUND, "model.safetensors", "no weights", "expected this file");
    dir_text("pytorch_model.bin", "x");
    expect(CPL_UNSUPPORTED, "pytorch_model.bin", "pickled", "expected model.safetensors");
    dir_text("model.safetensors.index.json", "{}");
    expect(CPL_UNSUPPORTED, "model.safetensors.index.json", "several files", "one model.safetensors");
    dir_text("model.safetensors", "");
    expect(CPL_CORRUPT, "model.safetensors", "8 bytes of header length", "found 0");
    dir_unlink("model.safetensors");
    assert_int_equal(mkdir(dir_path("model.safetensors"), 0700), 0);
    expect(CPL_INVALID, "model.safetensors", "directory", "expected a file");
    assert_int_equal(rmdir(dir_path("model.safetensors")), 0);
}

static void refuses_a_truncated_directory(void **state)
{
    (void)state;
    cpl_buf file = {0};
    dir_open("embedder-cls");
    assert_int_equal(cpl_file_read(&file, dir_path("model.safetensors"), 1 << 26, NULL), CPL_OK);
    for (size_t n = file.size - 1; n > 5; n -= n > 4096 ? 4093 : 611) {
        dir_write("model.safetensors", file.data, n);
        expect(CPL_CORRUPT, "model.safetensors", "expected", "");
        if (n < 700) break;
    }
    cpl_buf_deinit(&file);
}

static void refuses_modules(void **state)
{
    (void)state;
#define MODULES(third)                                                                                                 \
    "[{\"path\":\"\",\"type\":\"sentence_transformers.models.Transformer\"},"                                          \
    "{\"path\":\"1_Pooling\",\"type\":\"sentence_transformers.models.Pooling\"}" third "]"
    static const struct {
        const char *text, *word, *second;
        cpl_status status;
    } cases[] = {
        {MODULES(",{\"path\":\"2_Dense\",\"type\":\"sentence_transformers.models.Dense\"}"), "module 2",
         "models.Dense'", CPL_UNSUPPORTED},
        {MODULES(",{\"path\":\"2_Normalize\",\"type\":\"other.Normalize\"}"), "module 2", "'other.Normalize'",
         CPL_UNSUPPORTED},
        {MODULES(",{\"path\":\"2_Normalize\",\"type\":\"sentence_transformers.models.Normalize\"},"
                 "{\"path\":\"3\",\"type\":\"sentence_transformers.models.Dropout\"}"),
         "module 3", "no further module", CPL_UNSUPPORTED},
        {"[{\"path\":\"0_T\",\"type\":\"sentence_transformers.models.Transformer\"},{\"path\":\"1\",\"type\":\"x\"}]",
         "'0_T'", "beside modules.json", CPL_UNSUPPORTED},
        {"[{\"path\":\"\",\"type\":\"sentence_transformers.models.Transformer\"}]", "list of modules", "Pooling",
         CPL_UNSUPPORTED},
        {"[{\"path\":\"\",\"type\":\"sentence_transformers.models.CLIPModel\"},{}]", "module 0", "CLIPModel",
         CPL_UNSUPPORTED},
        {"[{\"path\":\"\",\"type\":\"sentence_transformers.models.Transformer\"},"
         "{\"path\":\"../x\",\"type\":\"sentence_transformers.models.Pooling\"}]",
         "'../x'", "a folder of the model", CPL_CORRUPT},
        {"{}", "list of modules", "an object", CPL_UNSUPPORTED},
        {"[1,2]", "a module", "a number", CPL_CORRUPT},
        {"[", "JSON", "1:", CPL_CORRUPT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        dir_open("embedder-mean");
        dir_text("modules.json", cases[i].text);
        expect(cases[i].status, "modules.json", cases[i].word, cases[i].second);
    }
    dir_open("embedder-mean");
    dir_unlink("1_Pooling/config.json");
    expect(CPL_NOT_FOUND, "1_Pooling/config.json", "open", "");
    dir_open("embedder-max");
    assert_int_equal(mkdir(dir_path("2_Normalize"), 0700), 0);
    dir_text("2_Normalize/config.json", "{\"module_input_name\":\"sentence_embedding\"}");
    works();
    dir_text("2_Normalize/config.json", "{\"module_input_name\":\"token_embeddings\"}");
    expect(CPL_UNSUPPORTED, "2_Normalize/config.json", "Normalize of 'token_embeddings'", "'sentence_embedding'");
}

static void refuses_poolings(void **state)
{
    (void)state;
    const char *file = "1_Pooling/config.json";
    refuse("embedder-mean", file, "{\"pooling_mode_cls_token\":true}", CPL_UNSUPPORTED, "several poolings", "'mean'");
    refuse("embedder-mean", file, "{\"pooling_mode_mean_tokens\":false}", CPL_CORRUPT, "no pooling", "pooling_mode_");
    refuse("embedder-mean", file, "{\"pooling_mode_mean_tokens\":false,\"pooling_mode_mean_sqrt_len_tokens\":true}",
           CPL_UNSUPPORTED, "'mean_sqrt_len_tokens'", "mean, cls or max");
    refuse("embedder-mean", file, "{\"pooling_mode_mean_tokens\":false,\"pooling_mode_lasttoken\":true}",
           CPL_UNSUPPORTED, "'lasttoken'", "mean, cls or max");
    refuse("embedder-mean", file, "{\"pooling_mode_mean_tokens\":\"yes\"}", CPL_CORRUPT, "pooling_mode_mean_tokens",
           "a string");
    refuse("embedder-mean", file, "{\"word_embedding_dimension\":384}", CPL_CORRUPT, "word_embedding_dimension",
           "expected 96");
    refuse("embedder-max", file, "{\"pooling_mode\":\"weightedmean\"}", CPL_UNSUPPORTED, "'weightedmean'", "mean, cls");
    refuse("embedder-max", file, "{\"pooling_mode\":[\"cls\",\"mean\"]}", CPL_UNSUPPORTED, "2 poolings",
           "expected one");
    refuse("embedder-max", file, "{\"pooling_mode\":7}", CPL_CORRUPT, "pooling_mode", "a number");
    refuse("embedder-max", file, "{\"include_prompt\":false}", CPL_UNSUPPORTED, "include_prompt", "prompt");
    refuse("embedder-max", file, "{\"embedding_dimension\":41}", CPL_CORRUPT, "embedding_dimension", "expected 40");
}

static void reads_length_limits(void **state)
{
    (void)state;
    static const struct {
        const char *limit, *tokenizer; /* of sentence_bert_config.json and tokenizer_config.json; NULL: no file */
        uint32_t expected;
    } cases[] = {
        {NULL, NULL, 104},
        {"{}", "{\"model_max_length\":1000000000000000019884624838656}", 104},
        {"{\"max_seq_length\":null}", "{\"model_max_length\":1e30}", 104},
        {NULL, "{\"model_max_length\":100}", 100},
        {NULL, "{\"model_max_length\":512}", 104},
        {"{\"max_seq_length\":64}", "{\"model_max_length\":32}", 64},
        {"{\"max_seq_length\":512}", "{}", 104},
        {"{\"max_seq_length\":3,\"do_lower_case\":true}", "{\"do_lower_case\":true}", 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        dir_open("cross-encoder");
        dir_unlink("tokenizer_config.json");
        if (cases[i].limit) dir_text("sentence_bert_config.json", cases[i].limit);
        if (cases[i].tokenizer) dir_text("tokenizer_config.json", cases[i].tokenizer);
        works();
        assert_int_equal(model->max_length, cases[i].expected);
    }
}

static void refuses_side_files(void **state)
{
    (void)state;
    const char *bert = "sentence_bert_config.json", *library = "config_sentence_transformers.json";
    const char *tokenizer = "tokenizer_config.json", *ce = "cross-encoder";
    refuse(ce, bert, "{\"max_seq_length\":2}", CPL_CORRUPT, "max_seq_length", "found 2");
    refuse(ce, bert, "{\"max_seq_length\":\"256\"}", CPL_CORRUPT, "max_seq_length", "a string");
    refuse(ce, bert, "{\"transformer_task\":\"text-generation\"}", CPL_UNSUPPORTED, "'text-generation'",
           "sequence-classification");
    refuse(ce, bert, "{\"processing_kwargs\":{\"text\":{\"max_length\":9}}}", CPL_UNSUPPORTED, "processing_kwargs", "");
    refuse(ce, tokenizer, "{\"model_max_length\":0}", CPL_CORRUPT, "model_max_length", "found 0");
    refuse(ce, tokenizer, "{\"model_max_length\":\"long\"}", CPL_CORRUPT, "model_max_length", "a string");
    refuse(ce, library, "{\"model_type\":\"SparseEncoder\"}", CPL_UNSUPPORTED, "'SparseEncoder'", "CrossEncoder");
    refuse(ce, library, "{\"activation_fn\":\"torch.nn.modules.activation.Tanh\"}", CPL_UNSUPPORTED, "activation_fn",
           "Tanh");
    refuse("embedder-mean", library, "{\"default_prompt_name\":\"q\",\"prompts\":{\"q\":\"query: \"}}", CPL_UNSUPPORTED,
           "default prompt", "'q'");
    dir_open("embedder-mean");
    dir_change(bert, "{\"do_lower_case\":true}");
    dir_change(tokenizer, "{\"do_lower_case\":false}");
    expect(CPL_UNSUPPORTED, bert, "do_lower_case", "keeps case");
    dir_open("embedder-mean");
    dir_text(library, "[]");
    expect(CPL_CORRUPT, library, "an object", "a list");
}

/* Directories as sentence-transformers 6 saves them: modules.json and the activation outside config.json. */
static void opens_a_cross_encoder_of_the_newer_kind(void **state)
{
    (void)state;
    dir_open("cross-encoder");
    dir_text("modules.json",
             "[{\"path\":\"\",\"type\":\"sentence_transformers.base.modules.transformer.Transformer\"}]");
    dir_text("config_sentence_transformers.json",
             "{\"model_type\":\"CrossEncoder\",\"activation_fn\":\"torch.nn.modules.linear.Identity\","
             "\"default_prompt_name\":null,\"prompts\":{}}");
    dir_text("sentence_bert_config.json", "{\"transformer_task\":\"sequence-classification\"}");
    works();
    assert_int_equal(model->activation, CPL_SCORE_IDENTITY);
    dir_text("modules.json", "[{\"path\":\"\",\"type\":\"sentence_transformers.models.Transformer\"},"
                             "{\"path\":\"1_Dense\",\"type\":\"sentence_transformers.models.Dense\"}]");
    expect(CPL_UNSUPPORTED, "modules.json", "module 1", "no further module");
}

static void closing_nothing_is_fine(void **state)
{
    (void)state;
    cpl_model_close(NULL);
    cpl_model *m;
    assert_int_equal(cpl_model_open(&m, "/nonexistent", NULL), CPL_NOT_FOUND);
    assert_null(m);
}

static int release(void **state)
{
    (void)state;
    cpl_model_close(model);
    model = NULL;
    dir_close();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(opens_the_tiny_models, release),
        cmocka_unit_test_teardown(reads_every_weight, release),
        cmocka_unit_test_teardown(refuses_wrong_tensors, release),
        cmocka_unit_test_teardown(refuses_what_is_left_over, release),
        cmocka_unit_test_teardown(refuses_two_of_one, release),
        cmocka_unit_test_teardown(accepts_what_a_head_leaves, release),
        cmocka_unit_test_teardown(refuses_missing_and_other_weights, release),
        cmocka_unit_test_teardown(refuses_a_truncated_directory, release),
        cmocka_unit_test_teardown(refuses_modules, release),
        cmocka_unit_test_teardown(refuses_poolings, release),
        cmocka_unit_test_teardown(reads_length_limits, release),
        cmocka_unit_test_teardown(refuses_side_files, release),
        cmocka_unit_test_teardown(opens_a_cross_encoder_of_the_newer_kind, release),
        cmocka_unit_test_teardown(closing_nothing_is_fine, release),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

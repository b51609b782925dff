/* config.json: rotary position embeddings and their scaling. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "config.h"

double yarn_mscale(double s, double m)
{
    return s <= 1 ? 1 : 0.1 * m * log(s) + 1;
}

double yarn_factor_default(const Rope *rope, bool mla)
{
    double m = rope->mscale, all = rope->mscale_all_dim;
    if (mla || (m != 0 && all != 0)) return yarn_mscale(rope->factor, m) / yarn_mscale(rope->factor, all);
    return yarn_mscale(rope->factor, 1);
}

static int rope_num(const Reader *r, const Json *obj, const char *what, const char *key, bool required, double lo, double hi, double *out)
{
    return json_get_num(obj, what, key, required, lo, hi, out, r->e);
}

/* "rope_type", or "type" as older files say; both must agree.  NULL: none is named. */
static int rope_type(Reader *r, const Json *obj, const char *what, const char **type)
{
    const char *old = NULL;
    *type = NULL;
    int rc = json_get_str(obj, what, "rope_type", false, type, r->e);
    if (!rc) rc = json_get_str(obj, what, "type", false, &old, r->e);
    if (rc) return rc;
    if (*type && old && strcmp(*type, old) != 0)
        return config_refuse(r, AHA_ERR_FORMAT, what, "type", json_field(obj, "type"), "the same as rope_type");
    if (!*type) *type = old;
    if (!*type && json_field(obj, "factor")) return config_refuse(r, AHA_ERR_FORMAT, what, "rope_type", NULL, "the name of the scaling");
    return 0;
}

static int original_length(Reader *r, const Json *obj, const char *what, bool required)
{
    int64_t n = r->c->max_pos;
    int     rc = json_get_int(obj, what, "original_max_position_embeddings", required, 1, 1 << 24, &n, r->e);
    r->c->rope.original_len = (int)n;
    return rc;
}

static int rope_yarn(Reader *r, const Json *obj, const char *what)
{
    Rope  *p = &r->c->rope;
    double attention = 0, attn = 0;
    bool   truncate = true;
    int    rc = original_length(r, obj, what, false);
    p->kind = ROPE_YARN;
    p->beta_fast = 32;
    p->beta_slow = 1;
    p->factor = rc ? 1 : (double)r->c->max_pos / p->original_len; /* when the file gives none */
    p->mscale = r->mla ? 1 : 0;
    if (!rc) rc = rope_num(r, obj, what, "factor", false, 1, 65536, &p->factor);
    if (!rc) rc = rope_num(r, obj, what, "beta_fast", false, 1e-6, 1e6, &p->beta_fast);
    if (!rc) rc = rope_num(r, obj, what, "beta_slow", false, 1e-6, 1e6, &p->beta_slow);
    if (!rc) rc = rope_num(r, obj, what, "mscale", false, 0, 1000, &p->mscale);
    if (!rc) rc = rope_num(r, obj, what, "mscale_all_dim", false, 0, 1000, &p->mscale_all_dim);
    if (!rc) rc = rope_num(r, obj, what, "attention_factor", false, 1e-6, 1e6, &attention);
    if (!rc) rc = rope_num(r, obj, what, "attn_factor", false, 1e-5, 1e5, &attn);
    if (!rc) rc = json_get_bool(obj, what, "truncate", false, &truncate, r->e);
    if (rc) return rc;
    if (!(p->factor >= 1)) return config_refuse(r, AHA_ERR_FORMAT, what, "factor", NULL, "a factor when the original length is above the maximum");
    if (p->beta_fast < p->beta_slow)
        return config_refuse(r, AHA_ERR_FORMAT, what, "beta_fast", json_field(obj, "beta_fast"), "at least beta_slow");
    if (!truncate) return config_refuse(r, AHA_ERR_UNSUPPORTED, what, "truncate", json_field(obj, "truncate"), "true");
    p->cos_sin_factor = attention > 0 ? attention : attn > 0 ? attn * yarn_mscale(p->factor, 1) : yarn_factor_default(p, r->mla);
    return 0;
}

static int rope_llama3(Reader *r, const Json *obj, const char *what)
{
    Rope *p = &r->c->rope;
    p->kind = ROPE_LLAMA3;
    int rc = original_length(r, obj, what, true);
    if (!rc) rc = rope_num(r, obj, what, "factor", true, 1, 65536, &p->factor);
    if (!rc) rc = rope_num(r, obj, what, "low_freq_factor", true, 1e-6, 1e6, &p->low_freq_factor);
    if (!rc) rc = rope_num(r, obj, what, "high_freq_factor", true, 1e-6, 1e6, &p->high_freq_factor);
    if (rc) return rc;
    if (!(p->high_freq_factor > p->low_freq_factor))
        return config_refuse(r, AHA_ERR_FORMAT, what, "high_freq_factor", json_field(obj, "high_freq_factor"), "more than low_freq_factor");
    return 0;
}

static int rope_partial(Reader *r, const Json *obj, const char *what)
{
    double part = 1;
    int    rc = rope_num(r, obj, what, "partial_rotary_factor", false, 0, 1e6, &part);
    if (!rc && part != 1)
        rc = config_refuse(r, AHA_ERR_UNSUPPORTED, what, "partial_rotary_factor", json_field(obj, "partial_rotary_factor"), "1");
    return rc;
}

/* One of rope_scaling (published) and rope_parameters (newer); its values are no objects: layers do not differ here. */
static int rope_object(Reader *r, const Json **obj, const char **name)
{
    const Json *scaling = json_field(r->root, "rope_scaling");
    *name = scaling && !(json_is_object(scaling) && json_object_size(scaling) == 0) ? "rope_scaling" : "rope_parameters";
    *obj = json_field(r->root, *name);
    if (*obj && !json_is_object(*obj)) return config_refuse(r, AHA_ERR_FORMAT, r->what, *name, *obj, "an object");
    Json       *all = json_object_get(r->root, *name), *v;
    const char *k;
    json_object_foreach(all, k, v)
    {
        if (json_is_object(v)) return config_refuse(r, AHA_ERR_UNSUPPORTED, r->what, *name, v, "the same for all layers");
    }
    return 0;
}

int config_rope(Reader *r)
{
    Rope       *p = &r->c->rope;
    const char *key, *type = NULL;
    const Json *obj;
    char        what[512];
    int         rc = rope_object(r, &obj, &key);
    if (rc) return rc;
    snprintf(what, sizeof what, "%s: %s", r->what, key);
    *p = (Rope){.theta = 10000, .factor = 1, .cos_sin_factor = 1, .interleaved = r->mla};

    /* theta must exceed 1: its logarithm divides */
    rc = rope_num(r, r->root, r->what, "rope_theta", false, 1.0001, 1e15, &p->theta);
    if (!rc) rc = rope_num(r, json_field(r->root, "rope_parameters"), what, "rope_theta", false, 1.0001, 1e15, &p->theta);
    if (!rc) rc = rope_num(r, obj, what, "rope_theta", false, 1.0001, 1e15, &p->theta);
    if (!rc && r->mla) rc = json_get_bool(r->root, r->what, "rope_interleave", false, &p->interleaved, r->e);
    if (!rc) rc = rope_partial(r, r->root, r->what);
    if (!rc) rc = rope_partial(r, obj, what);
    if (!rc) rc = rope_type(r, obj, what, &type);
    if (rc || !type || strcmp(type, "default") == 0) return rc;
    if (strcmp(type, "yarn") == 0) return rope_yarn(r, obj, what);
    if (strcmp(type, "llama3") == 0) return rope_llama3(r, obj, what);
    if (strcmp(type, "linear") == 0) {
        p->kind = ROPE_LINEAR;
        return rope_num(r, obj, what, "factor", true, 1, 65536, &p->factor);
    }
    key = json_field(obj, "rope_type") ? "rope_type" : "type";
    return config_refuse(r, AHA_ERR_UNSUPPORTED, what, key, json_field(obj, key), "default, linear, yarn or llama3");
}

/* SPDX-License-Identifier: Apache-2.0 */
/* plugin_nosymbol.c - a shared library that is no plug-in, for test_registry.c: built as couplet-nosymbol.so. */
__attribute__((visibility("default"))) int cpl_not_a_plugin(void);

int cpl_not_a_plugin(void) { return 1; }

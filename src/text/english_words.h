/* SPDX-License-Identifier: Apache-2.0 */
/* english_words.h - 8,191 lower-case words, a space behind each (english_words.c). */
#ifndef CPL_TEXT_ENGLISH_WORDS_H
#define CPL_TEXT_ENGLISH_WORDS_H

enum { CPL_ENGLISH_WORDS = 8191 };

extern const char cpl_english_words[];

#endif

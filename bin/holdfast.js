#!/usr/bin/env node
'use strict'

void require('../lib/cli/main.js').main(process.argv.slice(2))
